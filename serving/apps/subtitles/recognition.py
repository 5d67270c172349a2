"""From a file to segments of text: decode, find speech, recognise, each while the next is under way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from serving.apps.models_client import ModelsClient
from serving.apps.onward import Onward
from serving.apps.subtitles import audio
from serving.apps.subtitles.audio import RATE
from serving.apps.subtitles.text import CHINESE, Script, in_script
from serving.apps.subtitles.transcript import Segment, Word
from serving.apps.subtitles.vad import Segmenter, Span, VoiceActivity

MODEL = "whisper-base"
IN_FLIGHT = 8
"""Segments of one request at the recogniser: as many as it takes in a batch. Bounds the memory too."""
_TIMEOUT_S = 300.0
"""For one segment, with the queue before it on a busy site."""
# Whisper's own rule for silence that it put words to (`no_speech_threshold`, `logprob_threshold`).
_NO_SPEECH = 0.6
_UNSURE = -1.0

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Options:
    """How to hear a clip."""

    language: str | None = None
    """ISO 639 code; None: as the longest of the first segments sounds."""
    prompt: str = ""
    """Names and style, given to the recogniser before each segment."""
    script: Script = "simplified"
    """Of Chinese."""


class Recognition:
    """One clip's recognition."""

    def __init__(self, client: ModelsClient, file: BinaryIO, options: Options, onward: Onward) -> None:
        self._client = client
        self._file = file
        self._options = options
        self._onward = onward
        self._language = options.language
        self.duration = 0.0
        """Seconds of sound decoded so far."""

    async def segments(self) -> AsyncIterator[Segment]:
        """Segments with text, in order, as they are done."""
        pending: deque[asyncio.Task[Segment]] = deque()
        try:
            async for found in self._speech():
                if self._language is None:
                    await self._detect(found, pending)
                else:
                    pending.extend(self._begin(*item) for item in found)
                while pending and (pending[0].done() or len(pending) > IN_FLIGHT):
                    segment = await pending.popleft()
                    if segment.words:
                        yield segment
            while pending:
                segment = await pending.popleft()
                if segment.words:
                    yield segment
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _detect(self, found: list[tuple[float, Floats]], pending: deque[asyncio.Task[Segment]]) -> None:
        """Hear the longest segment first, the rest in its language: short ones are easily mistaken."""
        longest = max(range(len(found)), key=lambda i: len(found[i][1]))
        first = self._begin(*found[longest])
        try:
            segment = await first
        except BaseException:
            first.cancel()
            raise
        if segment.words:
            self._language = segment.language
        pending.extend(first if i == longest else self._begin(*item) for i, item in enumerate(found))

    async def _speech(self) -> AsyncIterator[list[tuple[float, Floats]]]:
        """Start in seconds and sound of segments, as many at a time as a block of the file completes."""
        activity, segmenter = VoiceActivity(self._client, self._onward), Segmenter()
        blocks = audio.blocks(self._file)
        held, first, samples = np.zeros(0, np.float32), 0, 0
        while True:
            block = await asyncio.to_thread(next, blocks, None)
            if block is None:
                spans = segmenter.finish(samples)
            else:
                samples += len(block)
                self.duration = samples / RATE
                held = np.concatenate([held, block])
                spans = segmenter.feed(await activity.probabilities(block))
            if spans:
                yield [(span.start / RATE, _cut(held, first, span)) for span in spans]
            if block is None:
                return
            held, first = held[max(0, segmenter.needed_from - first) :], max(first, segmenter.needed_from)

    def _begin(self, start: float, sound: Floats) -> asyncio.Task[Segment]:
        return asyncio.create_task(self._recognise(start, sound))

    async def _recognise(self, start: float, sound: Floats) -> Segment:
        inputs = {
            "audio": sound[None],
            # Always both: Triton joins only requests that have the same inputs.
            "language": np.array([[self._language or ""]], np.object_),
            "prompt": np.array([[self._options.prompt]], np.object_),
        }
        answer = await self._client.infer(MODEL, inputs, onward=self._onward, timeout_s=_TIMEOUT_S)
        language = answer["language"].item().decode()
        unsure = answer["avg_logprob"].item(), answer["no_speech_probability"].item()
        words = tuple(
            Word(text.decode(), start + float(times[0]), start + float(times[1]), float(probability))
            for text, times, probability in zip(
                answer["words"].reshape(-1),
                answer["word_times"].reshape(-1, 2),
                answer["word_probabilities"].reshape(-1),
                strict=True,
            )
        )
        if unsure[0] < _UNSURE and unsure[1] > _NO_SPEECH:
            words = ()
        if language in CHINESE:
            words = in_script(words, self._options.script)
        return Segment(start, start + len(sound) / RATE, words, language, *unsure)


def _cut(held: Floats, first: int, span: Span) -> Floats:
    return held[span.start - first : span.end - first]
