"""Where speech is: Silero's windows, and the segments that its probabilities make.

Windows are 512 samples at 16 kHz (32 ms), each preceded by the 64 samples before it, as in `silero_vad`'s own
`OnnxWrapper` (https://github.com/snakers4/silero-vad).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving.apps.models_client import ModelsClient
from serving.apps.onward import Onward
from serving.apps.subtitles.audio import RATE

MODEL = "silero-vad"
WINDOW = 512
CONTEXT = 64

Floats = npt.NDArray[np.float32]


class VoiceActivity:
    """Speech probabilities of a clip that comes in blocks; one request per block carries the state on."""

    def __init__(self, client: ModelsClient, onward: Onward) -> None:
        self._client = client
        self._onward = onward
        self._context = np.zeros(CONTEXT, np.float32)
        self._h = self._c = np.zeros((1, 1, 128), np.float32)

    async def probabilities(self, block: Floats) -> Floats:
        """FP32 `[ceil(samples / 512)]` of `block` FP32 `[samples]`: a multiple of 512, but for the last."""
        rows, self._context = windows(self._context, block)
        answer = await self._client.infer(
            MODEL,
            {"input": rows, "h": self._h, "c": self._c},
            outputs=("speech_probs", "hn", "cn"),
            onward=self._onward,
        )
        self._h, self._c = answer["hn"], answer["cn"]
        return answer["speech_probs"].reshape(-1)


def windows(context: Floats, block: Floats) -> tuple[Floats, Floats]:
    """`block` as rows of 64 + 512 samples, the last filled up with zeros, and the next block's context."""
    count = -(-len(block) // WINDOW)
    joined = np.zeros(CONTEXT + count * WINDOW, np.float32)
    joined[:CONTEXT] = context
    joined[CONTEXT : CONTEXT + len(block)] = block
    rows = np.lib.stride_tricks.sliding_window_view(joined, CONTEXT + WINDOW)[::WINDOW]
    return rows, joined[-CONTEXT:]


@dataclass(frozen=True)
class Thresholds:
    """When speech begins and ends."""

    begin: float = 0.5
    """Speech begins at this probability; Silero's own default."""
    end: float = 0.35
    """It ends below this one: hysteresis, or every soft syllable would end it."""
    min_speech_s: float = 0.2
    """Shorter sounds are clicks and coughs."""
    min_silence_s: float = 0.7
    """Shorter pauses stay inside a segment: a recogniser does better with whole sentences. Not longer ones:
    decoding without timestamps, Whisper ends at a pause of 0.8 s and loses what follows."""
    padding_s: float = 0.2
    """Kept before and after, for soft consonants lie below the thresholds; below half of `min_silence_s`."""
    max_segment_s: float = 28.0
    """Below Whisper's 30 s even with the padding. A longer one is cut where speech is least likely."""


@dataclass(frozen=True)
class Span:
    """A segment of speech in samples from the clip's start, `end` not included."""

    start: int
    end: int


class Segmenter:
    """Segments from probabilities that come block by block."""

    def __init__(self, thresholds: Thresholds | None = None) -> None:
        self._rules = thresholds or Thresholds()
        self._seen = 0
        """Windows seen."""
        self._speech: list[float] | None = None
        """Probabilities since speech began, the silence that may end it included."""
        self._begin = 0
        self._quiet = 0
        """Windows of silence at the end of `_speech`."""
        self._cut = False
        """The segment begins where the last one was cut."""

    @property
    def needed_from(self) -> int:
        """The first sample that a coming segment may need."""
        begin = self._seen if self._speech is None else self._begin
        return self._padded(begin)

    def feed(self, probabilities: Floats) -> list[Span]:
        """Segments that are complete with these windows."""
        return [span for probability in probabilities.tolist() for span in self._step(probability)]

    def finish(self, samples: int) -> list[Span]:
        """The segment still open when the clip, `samples` long, ends."""
        span = self._close() if self._speech is not None else None
        return [Span(span.start, min(span.end, samples))] if span else []

    def _step(self, probability: float) -> list[Span]:
        self._seen += 1
        if self._speech is None:
            if probability >= self._rules.begin:
                self._speech, self._begin, self._quiet, self._cut = [probability], self._seen - 1, 0, False
            return []
        self._speech.append(probability)
        self._quiet = self._quiet + 1 if probability < self._rules.end else 0
        span = None
        if self._quiet * WINDOW >= self._rules.min_silence_s * RATE:
            span = self._close()
        elif len(self._speech) * WINDOW >= self._rules.max_segment_s * RATE:
            span = self._split(self._speech)
        return [span] if span else []

    def _close(self) -> Span | None:
        end = self._seen - self._quiet
        start = self._padded(self._begin)
        least = 1 if self._cut else self._rules.min_speech_s * RATE
        self._speech, self._cut = None, False
        if (end - self._begin) * WINDOW < least:
            return None
        return Span(start, end * WINDOW + self._padding)

    def _split(self, speech: list[float]) -> Span:
        """Cut at the least likely window of the second half; the rest goes on as the next segment."""
        half = len(speech) // 2
        at = half + int(np.argmin(speech[half:-1]))
        span = Span(self._padded(self._begin), (self._begin + at) * WINDOW)
        self._begin, self._speech, self._cut = self._begin + at, speech[at:], True
        self._quiet = min(self._quiet, len(self._speech))
        return span

    @property
    def _padding(self) -> int:
        return int(self._rules.padding_s * RATE)

    def _padded(self, begin: int) -> int:
        return begin * WINDOW if self._cut else max(0, begin * WINDOW - self._padding)
