"""The review of one input: pictures are decoded, scored and read, texts searched, and the policy decides."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from serving.apps.review import answer, images, verdict
from serving.apps.review.inference import Infer
from serving.apps.review.ocr.reader import Line, Reader
from serving.apps.review.policy_file import PolicyFile
from serving.apps.review.request import Part, TextPart, picture_bytes
from serving.apps.review.verdict import Text

NSFW = "open-nsfw"
_UNSAFE = 1
"""Of open-nsfw's two outputs: safe, unsafe."""

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class Reviewer:
    """Reviews inputs. Work on pixels and long texts is done in threads, as many as the machine has cores."""

    def __init__(self, *, labels: Path, policy: PolicyFile) -> None:
        """`labels`: `labels.txt` of the recogniser's bundle. Raises `IntegrityError` if it cannot be."""
        self._policy = policy
        self._threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="review")
        self._reader = Reader(labels, self._threads)

    async def in_thread(self, work: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
        """Do `work` off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    async def review(self, parts: Sequence[Part], infer: Infer) -> answer.Result:
        """One result for all `parts` of one input, by the policy in force.

        Raises `AppError` for pictures that cannot be looked at and what `infer` raises.
        """
        rules = await self.in_thread(self._policy.current)
        texts = [Text(i, part.text) for i, part in enumerate(parts) if isinstance(part, TextPart)]
        looked_at = [
            # One after the other: each takes a hundred megabytes, and models are busy with one.
            await self._look_at(i, part.image_url.url, infer)
            for i, part in enumerate(parts)
            if not isinstance(part, TextPart)
        ]
        return await self.in_thread(verdict.judge, rules, texts, looked_at)

    async def _look_at(self, place: int, url: str, infer: Infer) -> answer.Image:
        picture = await self.in_thread(_open, url, f"input.{place}.image_url.url")
        return answer.Image(
            input=place,
            format=picture.format,
            width=picture.width,
            height=picture.height,
            frames=picture.frames,
            looked_at=[await self._look_at_frame(frame, picture, infer) for frame in picture.looked_at],
        )

    async def _look_at_frame(
        self, frame: images.Frame, picture: images.Picture, infer: Infer
    ) -> answer.Frame:
        unsafe, lines = await asyncio.gather(
            self._unsafe(frame.pixels, infer), self._reader.read(frame.pixels, infer)
        )
        scale = picture.width / frame.pixels.shape[1]
        return answer.Frame(
            frame=frame.index,
            scores={"sexual": unsafe},
            lines=[_line(line, scale) for line in lines if line.text],
        )

    async def _unsafe(self, pixels: images.Pixels, infer: Infer) -> float:
        tensor = await self.in_thread(images.nsfw_input, pixels)
        outputs = await infer(NSFW, {"input:0": tensor[None]})
        return float(outputs["outputs"][0, _UNSAFE])


def _open(url: str, param: str) -> images.Picture:
    return images.decode(picture_bytes(url, param=param), param=param)


def _line(line: Line, scale: float) -> answer.Line:
    return answer.Line(
        polygon=[(float(x), float(y)) for x, y in line.quad * scale],
        text=line.text,
        confidence=line.confidence,
        direction=line.direction,
    )
