"""The token loop: greedy decoding of a batch, with the key-value cache kept inside ONNX Runtime.

The rules are openai/whisper's (`whisper/decoding.py`): tokens that are no speech never come, and neither a
blank nor the end comes first. A row that has ended leaves the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from models.whisper.tokenizer import Tokenizer

CONTEXT = 448
"""Places the decoder has."""
MOST_PROMPT = CONTEXT // 2 - 1
MOST_TEXT = CONTEXT - (1 + MOST_PROMPT) - 4
"""Half of the places are for a prompt and the token before it, the rest for the beginning (4) and text."""
_LOOP_TIMES, _LOOP_TOKENS = 3, 24
"""Text that ends in the same tokens three times over, at least 24 of them, is a loop: it is cut."""

Floats = npt.NDArray[np.float32]


@dataclass
class Row:
    """One segment on its way."""

    prompt: list[int]
    """Tokens of the text before it."""
    language: int | None
    """Its language token; None until detected."""
    frames: int = 0
    """Encoder frames."""
    tokens: list[int] = field(default_factory=list)
    """The text so far."""
    logprobs: list[float] = field(default_factory=list)
    """Of the tokens, and of the end if it came."""
    ended: bool = False
    """Whether the end came, and not a loop or the limit."""
    no_speech: float = 0.0
    """Probability that there is no speech."""
    attention: list[Floats] = field(default_factory=list)
    """`[heads, tokens, frames]` for every run of the decoder, from the start of the transcript on."""

    @property
    def avg_logprob(self) -> float:
        """Mean of the natural logarithms of the tokens' probabilities, the end's among them."""
        return float(np.mean(self.logprobs)) if self.logprobs else 0.0


class Decoder:
    """The decoder's graph and the rules of decoding."""

    def __init__(
        self,
        session: ort.InferenceSession,
        tokenizer: Tokenizer,
        suppressed: Sequence[int],
        first: Sequence[int],
    ) -> None:
        """`suppressed` tokens never come, `first` ones do not begin a text."""
        self.session, self.tokenizer = session, tokenizer
        self._languages = np.array(list(tokenizer.languages.values()))
        outputs = [output.name for output in session.get_outputs()]
        self.fetched = [
            "logprobs",
            "alignment",
            *(name for name in outputs if name.startswith(("key_", "value_"))),
        ]
        vocabulary = session.get_outputs()[0].shape[1]
        self._never = np.zeros(vocabulary, np.float32)
        self._never[[*suppressed, tokenizer.no_timestamps]] = -np.inf
        self._never[tokenizer.no_timestamps + 1 :] = -np.inf  # timestamps
        self._never_first = self._never.copy()
        self._never_first[list(first)] = -np.inf
        self.empty = {
            item.name: [item.shape[1], 0, item.shape[3]]
            for item in session.get_inputs()
            if item.name.startswith("past_")
        }

    def decode(self, rows: Sequence[Row], cross: dict[str, Floats]) -> None:
        """Fill `rows` in. `cross`: the encoder's `cross_*` of all rows, padded to the longest."""
        state = _State(self, list(rows), cross)
        started = [
            [*([self.tokenizer.previous, *row.prompt] if row.prompt else []), self.tokenizer.start]
            for row in rows
        ]
        probabilities = np.exp(state.run(started, keep=1))
        for row, heard in zip(rows, probabilities, strict=True):
            row.no_speech = float(heard[self.tokenizer.no_speech])
            if row.language is None:
                row.language = int(self._languages[np.argmax(heard[self._languages])])
        task = [self.tokenizer.transcribe, self.tokenizer.no_timestamps]
        logprobs = state.run([[row.language or 0, *task] for row in rows], keep=3)
        state.take(logprobs, self._never_first)
        while state.rows:
            logprobs = state.run([row.tokens[-1:] for row in state.rows], keep=1)
            state.take(logprobs, self._never)


class _State:
    """A batch in the loop: rows that go on, and their caches."""

    def __init__(self, decoder: Decoder, rows: list[Row], cross: dict[str, Floats]) -> None:
        self.decoder, self.rows = decoder, rows
        self.padding = np.zeros(len(rows), np.int64)
        self.frames = np.array([row.frames for row in rows], np.int64)
        self.cross = {name: _value(array) for name, array in cross.items()}
        self.past = {
            name: _value(np.zeros((len(rows), *shape), np.float32)) for name, shape in decoder.empty.items()
        }

    def run(self, tokens: list[list[int]], keep: int) -> Floats:
        """Feed `tokens`, shorter rows filled up in front; log probabilities of what comes next.

        Keeps the attention of the last `keep` tokens.
        """
        width = max(map(len, tokens))
        filled = np.array(
            [[self.decoder.tokenizer.end] * (width - len(row)) + row for row in tokens], np.int64
        )
        self.padding += [width - len(row) for row in tokens]
        feeds = {
            "tokens": _value(filled),
            "padding": _value(self.padding),
            "frames": _value(self.frames),
            **self.past,
            **self.cross,
        }
        fetched = self.decoder.fetched
        logprobs, attention, *cache = self.decoder.session.run_with_ort_values(fetched, feeds)
        self.past = {f"past_{name}": value for name, value in zip(fetched[2:], cache, strict=True)}
        weights = attention.numpy()
        for i, row in enumerate(self.rows):
            row.attention.append(weights[i, :, width - keep :, : row.frames])
        result: Floats = logprobs.numpy()
        return result

    def take(self, logprobs: Floats, never: Floats) -> None:
        """Append each row's likeliest token that `never` does not bar by minus infinity; ended rows leave."""
        tokens = np.argmax(logprobs + never, -1)
        chosen = logprobs[np.arange(len(tokens)), tokens]
        going = [
            i
            for i, (row, token, logprob) in enumerate(
                zip(self.rows, tokens.tolist(), chosen.tolist(), strict=True)
            )
            if self._goes_on(row, token, logprob)
        ]
        if len(going) < len(self.rows):
            self.rows = [self.rows[i] for i in going]
            if going:
                self.padding, self.frames = self.padding[going], self.frames[going]
                self.cross = {name: _value(value.numpy()[going]) for name, value in self.cross.items()}
                self.past = {name: _value(value.numpy()[going]) for name, value in self.past.items()}

    def _goes_on(self, row: Row, token: int, logprob: float) -> bool:
        row.logprobs.append(logprob)
        if token == self.decoder.tokenizer.end:
            row.ended = True
            return False
        row.tokens.append(token)
        if repeated := loop(row.tokens):
            cut = len(row.tokens) - repeated
            del row.tokens[cut:], row.logprobs[cut:]
            return False
        return len(row.tokens) < MOST_TEXT


def loop(tokens: Sequence[int]) -> int:
    """How many tokens at the end only repeat those before them, 0 if it is no loop."""
    for period in range(1, len(tokens) // _LOOP_TIMES + 1):
        size = max(_LOOP_TIMES * period, _LOOP_TOKENS)
        if size <= len(tokens) and tokens[-size:-period] == tokens[period - size :]:
            return size - period
    return 0


def _value(array: npt.NDArray[Any]) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
