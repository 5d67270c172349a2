"""Whisper's vocabulary: text, the special tokens around it, and tokens gathered into words.

Meaning of the special tokens and the two ways to find words follow `whisper/tokenizer.py` of openai/whisper.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers

from models.errors import IntegrityError, UsageError

_SPACELESS = frozenset({"zh", "ja", "th", "lo", "my", "yue"})
"""Languages written without spaces: every character that tokens complete is a word."""
_BROKEN = "�"
"""What a token that ends inside a character decodes to."""


class Tokenizer:
    """The vocabulary of one model."""

    def __init__(self, path: Path, language_ids: Iterable[int]) -> None:
        """Read `tokenizer.json`; `language_ids` are the tokens of languages, from `config.json`."""
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise IntegrityError(f"{path} is not a tokenizer: {error}") from error
        self.end = self._special("endoftext")
        self.start = self._special("startoftranscript")
        self.transcribe = self._special("transcribe")
        self.previous = self._special("startofprev")
        self.no_speech = self._special("nocaptions")
        self.no_timestamps = self._special("notimestamps")
        self.languages = {self._spelt(id_): id_ for id_ in language_ids}
        """Token by ISO 639 code."""

    def language(self, code: str) -> int:
        """The token of an ISO 639 code. Raises `UsageError` for one the model does not know."""
        try:
            return self.languages[code.lower()]
        except KeyError:
            known = ", ".join(sorted(self.languages))
            raise UsageError(f"unknown language `{code}`", hint=f"Known: {known}.") from None

    def begin(self, language: str) -> list[int]:
        """The tokens that ask for a transcript without timestamps."""
        return [self.start, self.language(language), self.transcribe, self.no_timestamps]

    def encode(self, text: str) -> list[int]:
        """Tokens of `text`, without special ones; text that spells a special token stays text."""
        return [id_ for id_ in self._tokenizer.encode(text, add_special_tokens=False).ids if id_ < self.end]

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of `tokens`; a character cut in two is U+FFFD."""
        text: str = self._tokenizer.decode(list(tokens))
        return text

    def words(self, tokens: Sequence[int], language: str) -> list[tuple[str, int]]:
        """`tokens` gathered into words, leaving none out: (text with its leading space, number of tokens)."""
        pieces = self._characters(tokens)
        if language in _SPACELESS:
            return pieces
        words: list[tuple[str, int]] = []
        for text, count in pieces:
            begins = text.startswith(" ") or text.strip() in string.punctuation
            if begins or not words:
                words.append((text, count))
            else:
                before, sofar = words[-1]
                words[-1] = (before + text, sofar + count)
        return words

    def _characters(self, tokens: Sequence[int]) -> list[tuple[str, int]]:
        """The shortest runs of tokens that are whole characters; what never becomes whole stays together."""
        pieces: list[tuple[str, int]] = []
        run: list[int] = []
        for token in tokens:
            run.append(token)
            text = self.decode(run)
            if _BROKEN not in text:
                pieces.append((text, len(run)))
                run = []
        if run:
            pieces.append((self.decode(run), len(run)))
        return pieces

    def _spelt(self, token: int) -> str:
        name = self._tokenizer.id_to_token(token)
        if name is None:
            raise IntegrityError(f"the tokenizer has no token {token}")
        return name.strip("<|>")

    def _special(self, name: str) -> int:
        token = self._tokenizer.token_to_id(f"<|{name}|>")
        if token is None:
            raise IntegrityError(f"the tokenizer has no token <|{name}|>")
        return int(token)
