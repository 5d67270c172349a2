"""Speech recognition with an exported Whisper: segments of sound in, text with word times out.

Needs NumPy, ONNX Runtime and tokenizers alone. One `Recognizer` serves one caller at a time.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from models.errors import UsageError
from models.whisper.config import read_config
from models.whisper.decoding import MOST_PROMPT, Decoder, Row
from models.whisper.mel import RATE, STEP
from models.whisper.tokenizer import Tokenizer
from models.whisper.words import Word, align

LONGEST_S = 30
FRAME = 2 * STEP
"""Samples per encoder frame."""
PADDING_S = 3.0
"""Seconds of silence put after a segment.

Whisper was trained on sound padded to 30 s. Most of that work can be saved, but with too little silence
it does not know when to end and starts over. Character error rates (int8) on the card's clips, as they
are, slowed and sped up (0.85 to 1.2), with noise (20 and 8 dB), with silence around them, and joined, 28
in all: 6.7% padded to 30 s; 5.8% with 5 s, 7.0% with 4 s and 6.2% with 3 s, which took 0.4 times the CPU
time; 28% with 2 s, where two clips looped. What looks wrong is heard again, padded to 30 s.
"""
NO_SPEECH, UNLIKELY, REPETITIVE = 0.6, -1.0, 2.4
"""Limits of `whisper/transcribe.py`: no-speech probability, mean log probability, compression ratio."""

Floats = npt.NDArray[np.float32]

__all__ = ["LONGEST_S", "RATE", "Recognition", "Recognizer", "Word"]


@dataclass(frozen=True)
class Recognition:
    """What was heard in one segment."""

    text: str
    language: str
    """ISO 639 code, as given or as detected."""
    words: tuple[Word, ...]
    avg_logprob: float
    """Mean of the natural logarithms of the tokens' probabilities."""
    no_speech_probability: float


class Recognizer:
    """An exported Whisper, loaded."""

    def __init__(self, encoder: Path, decoder: Path, files: Path, *, threads: int) -> None:
        """Load the graphs; `files` holds `tokenizer.json` and `config.json`. Raises `IntegrityError`."""
        config = read_config(files)
        self._tokenizer = Tokenizer(files / "tokenizer.json", config.languages)
        self._encoder = _session(encoder, threads)
        self._decoder = Decoder(
            _session(decoder, threads), self._tokenizer, config.suppressed, config.suppressed_first
        )
        self._cross = [item.name for item in self._encoder.get_outputs() if item.name.startswith("cross_")]
        self._codes = {token: code for code, token in self._tokenizer.languages.items()}

    def recognize(
        self, segments: Sequence[Floats], languages: Sequence[str | None], prompts: Sequence[str | None]
    ) -> list[Recognition]:
        """Recognise `segments` as one batch.

        Args:
            segments: FP32 `[samples]` each: mono, 16 kHz, -1 to 1, at most 30 seconds.
            languages: ISO 639 codes; None or "" to detect.
            prompts: the text before each segment, for names and style; None or "" for none.

        Raises:
            UsageError: a segment that is not one row of at most 30 finite seconds, or an unknown language.
        """
        rows = [self._row(*item) for item in zip(segments, languages, prompts, strict=True)]
        self._decode(rows, segments, PADDING_S)
        if doubtful := [i for i, row in enumerate(rows) if self._doubtful(row)]:
            again = [Row([], rows[i].language) for i in doubtful]
            self._decode(again, [segments[i] for i in doubtful], LONGEST_S)
            for i, row in zip(doubtful, again, strict=True):
                rows[i] = row
        return [self._result(row, len(segment)) for row, segment in zip(rows, segments, strict=True)]

    def _decode(self, rows: Sequence[Row], segments: Sequence[Floats], padding: float) -> None:
        """Fill `rows` in from `segments`, each with `padding` seconds of silence after it."""
        if not rows:
            return
        # One by one: lengths differ, and the encoder keeps every core busy with one row already.
        encoded = [self._encode(segment, padding) for segment in segments]
        for row, one in zip(rows, encoded, strict=True):
            row.frames = one[self._cross[0]].shape[-1]
        self._decoder.decode(rows, {name: _stacked([one[name] for one in encoded]) for name in self._cross})

    def _doubtful(self, row: Row) -> bool:
        """Whether to hear it again as the model was trained: padded to 30 s, and without a prompt."""
        if row.no_speech > NO_SPEECH:
            return False
        text = self._tokenizer.decode(row.tokens).encode()
        compression = len(text) / len(zlib.compress(text))
        return not row.ended or row.avg_logprob < UNLIKELY or compression > REPETITIVE

    def _row(self, segment: Floats, language: str | None, prompt: str | None) -> Row:
        if segment.ndim != 1 or not segment.size:
            raise UsageError(f"a segment is one row of samples, not of shape {list(segment.shape)}")
        if len(segment) > LONGEST_S * RATE:
            raise UsageError(
                f"a segment lasts at most {LONGEST_S} s, this one {len(segment) / RATE:.2f} s",
                hint="Cut it at pauses first.",
            )
        if not np.isfinite(segment).all():
            raise UsageError("a segment has samples that are not finite")
        tokens = self._tokenizer.encode(f" {prompt.strip()}") if prompt and prompt.strip() else []
        return Row(tokens[-MOST_PROMPT:], self._tokenizer.language(language) if language else None)

    def _encode(self, segment: Floats, padding: float) -> dict[str, Floats]:
        length = min(len(segment) + int(padding * RATE), LONGEST_S * RATE)
        audio = np.zeros((1, -(-length // FRAME) * FRAME), np.float32)
        audio[0, : len(segment)] = segment
        return dict(zip(self._cross, self._encoder.run(self._cross, {"audio": audio}), strict=True))

    def _result(self, row: Row, samples: int) -> Recognition:
        language = self._codes[row.language or 0]
        if row.no_speech > NO_SPEECH and row.avg_logprob < UNLIKELY:
            return Recognition("", language, (), row.avg_logprob, row.no_speech)
        words = align(
            np.concatenate(row.attention, axis=1)[..., : max(1, samples // FRAME)],
            3,
            self._tokenizer.words(row.tokens, language),
            np.exp(row.logprobs[: len(row.tokens)]).tolist(),
        )
        text = self._tokenizer.decode(row.tokens)
        return Recognition(text.strip(), language, tuple(words), row.avg_logprob, row.no_speech)


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Waiting threads sleep: a site's cores are shared with its other models and apps. With both cores busy,
    # spinning made two clips take 6.2 s and 3.1 CPU seconds instead of 3.8 s and 1.8.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _stacked(arrays: list[Floats]) -> Floats:
    """`[1, …]` arrays as one batch, shorter ones filled up with zeros."""
    shape = np.max([array.shape for array in arrays], axis=0)
    out = np.zeros((len(arrays), *shape[1:]), np.float32)
    for row, array in zip(out, arrays, strict=True):
        row[tuple(slice(size) for size in array.shape[1:])] = array[0]
    return out
