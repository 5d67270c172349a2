"""The reader: from a picture to its lines of text, through three models."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serving.apps.review.inference import Array, Infer
from serving.apps.review.ocr import detect, recognise
from serving.apps.review.ocr.geometry import Pixels, Quad, cut_out, in_reading_order

DETECTOR, DIRECTION, RECOGNISER = "ppocr-det", "ppocr-cls", "ppocr-rec"
LINES_A_BATCH = 6
"""As in PaddleOCR."""
_BATCHES_AT_ONCE = 2
"""Of one picture: keeps the recogniser busy without filling its queue before other pictures."""


@dataclass(frozen=True)
class Line:
    """A line of text in a picture."""

    quad: Quad
    """Around it, in pixels of the picture read."""
    text: str
    confidence: float
    """Mean of the recogniser's certainty of each character, 0 to 1."""
    direction: int
    """Degrees by which the text stands turned clockwise: 0, 90, 180 or 270."""


@dataclass(frozen=True)
class _Cut:
    pixels: Pixels
    quad: Quad
    direction: int


class Reader:
    """Reads text with the PP-OCR models. Safe for many pictures at once."""

    def __init__(self, labels: Path, executor: Executor) -> None:
        """`labels`: the recogniser's `labels.txt`; `executor` has the threads for work on pixels.

        Raises `IntegrityError` when the labels cannot be read.
        """
        self._labels = recognise.load_labels(labels)
        self._executor = executor
        self._detection = detect.Detection()

    async def read(self, rgb: Pixels, infer: Infer) -> list[Line]:
        """All lines found in `rgb`, in reading order, however unsure. Raises what `infer` does."""
        loop = asyncio.get_running_loop()
        bgr, tensor = await loop.run_in_executor(self._executor, self._prepare, rgb)
        likelihood = await _ask(infer, DETECTOR, tensor)
        cuts = await loop.run_in_executor(self._executor, self._cut, bgr, likelihood[0, 0])
        gate = asyncio.Semaphore(_BATCHES_AT_ONCE)

        async def batch(chosen: list[_Cut]) -> list[Line]:
            async with gate:
                return await self._read_batch(chosen, infer)

        batches = recognise.by_width([cut.pixels for cut in cuts], LINES_A_BATCH)
        read = await asyncio.gather(*(batch([cuts[i] for i in indices]) for indices in batches))
        order = [i for indices in batches for i in indices]
        lines = dict(zip(order, itertools.chain.from_iterable(read), strict=True))
        return [lines[i] for i in range(len(cuts))]

    def _prepare(self, rgb: Pixels) -> tuple[Pixels, Array]:
        bgr = np.ascontiguousarray(rgb[:, :, ::-1])  # what the networks were trained with
        return bgr, detect.prepare(bgr, self._detection)

    def _cut(self, bgr: Pixels, likelihood: Array) -> list[_Cut]:
        quads = in_reading_order(detect.boxes(likelihood, bgr.shape, self._detection))
        cuts = ((quad, *cut_out(bgr, quad)) for quad in quads)
        return [_Cut(pixels, quad, 90 if turned else 0) for quad, pixels, turned in cuts]

    async def _read_batch(self, cuts: Sequence[_Cut], infer: Infer) -> list[Line]:
        loop = asyncio.get_running_loop()
        tensor = await loop.run_in_executor(
            self._executor, recognise.direction_input, [cut.pixels for cut in cuts]
        )
        turned = recognise.upside_down(await _ask(infer, DIRECTION, tensor))
        upright = [_turn(cut) if turn else cut for cut, turn in zip(cuts, turned, strict=True)]
        tensor = await loop.run_in_executor(
            self._executor, recognise.recognition_input, [cut.pixels for cut in upright]
        )
        probabilities = await _ask(infer, RECOGNISER, tensor)
        texts = await loop.run_in_executor(self._executor, recognise.decode, probabilities, self._labels)
        return [Line(cut.quad, *text, cut.direction) for cut, text in zip(upright, texts, strict=True)]


async def _ask(infer: Infer, model: str, tensor: Array) -> Array:
    """The output of a model that has one input, `x`, and one output."""
    (output,) = (await infer(model, {"x": tensor})).values()
    return output


def _turn(cut: _Cut) -> _Cut:
    return _Cut(np.ascontiguousarray(cut.pixels[::-1, ::-1]), cut.quad, cut.direction + 180)
