"""Finding a policy's terms in text, however they are written.

Text and terms are folded to one form before they are compared: full-width and other compatibility forms
to plain ones, case, accents, Traditional to Simplified characters (OpenCC); and whatever is neither letter
nor digit is passed over, so that `赌 博`, `賭*博` and `ＢＥＴ` are found. Offsets lead back to the text sent.

Not promised: letters of one script that look like another's (Cyrillic `а` for `a`), and characters with the
same sound or shape.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import ahocorasick
import numpy as np
import numpy.typing as npt
import opencc

Ints = npt.NDArray[np.int64]

_CHARACTERS = 1 << 15
"""Of which folding is remembered: all that are in use, and not all that a hostile text can hold."""


@dataclass(frozen=True)
class Folded:
    """A text in the form in which it is compared; all letters and digits."""

    text: str
    offsets: Ints
    """For each folded character, the code point of the original it comes from."""
    places: Ints
    """For each folded character, how many visible characters of the original stand before it."""

    def gap(self, i: int) -> int:
        """Visible characters between the folded characters `i` and `i + 1` in the original."""
        return max(0, int(self.places[i + 1] - self.places[i]) - 1)


@dataclass(frozen=True)
class Match:
    """A term found. `start` and `end` count code points of the original text."""

    list: str
    term: str
    start: int
    end: int
    text: str
    """As it stands in the original."""
    inserted: int
    """Visible characters between those of the term that the term does not have."""


@dataclass(frozen=True)
class _Entry:
    list: str
    term: str
    free: frozenset[int]
    """Folded positions after which the term itself has a space or a sign."""
    gap: int


@cache
def _simplified() -> Any:
    return opencc.OpenCC("t2s")


@lru_cache(_CHARACTERS)
def fold_character(character: str) -> str:
    """The letters and digits that one character stands for; empty for signs, spaces and marks."""
    plain = unicodedata.normalize("NFKD", character).casefold()
    letters = "".join(c for c in plain if unicodedata.category(c)[0] in "LN")
    # Recomposed, because Hangul syllables fall apart into letters of their own.
    return "".join(_simplified().convert(c) for c in unicodedata.normalize("NFC", letters))


@lru_cache(_CHARACTERS)
def _visible(character: str) -> bool:
    """Whether it takes a place of its own; accents, zero-width characters and variation selectors do not."""
    return unicodedata.category(character) not in ("Mn", "Me", "Cf")


def fold(text: str) -> Folded:
    """`text` in the form in which it is compared."""
    pieces = [fold_character(character) for character in text]
    lengths = [len(piece) for piece in pieces]
    visible = np.fromiter((_visible(character) for character in text), np.int64, len(text))
    offsets = np.repeat(np.arange(len(text)), lengths)
    return Folded("".join(pieces), offsets, np.cumsum(visible)[offsets])


class Matcher:
    """All terms of a policy in one automaton (Aho and Corasick 1975): one pass over a text finds them."""

    def __init__(self, lists: Mapping[str, tuple[list[str], int]]) -> None:
        """`lists` gives each list's terms and how many characters may be inserted between two of a term.

        Raises `ValueError` for a term without a letter or a digit.
        """
        entries: dict[str, list[_Entry]] = {}
        for name, (terms, gap) in lists.items():
            for term in terms:
                folded = fold(term)
                if not folded.text:
                    raise ValueError(f"the term `{term}` of list `{name}` has no letter or digit to look for")
                free = frozenset(i for i in range(len(folded.text) - 1) if folded.gap(i))
                entries.setdefault(folded.text, []).append(_Entry(name, term, free, gap))
        self._automaton = ahocorasick.Automaton()
        for key, found in entries.items():
            self._automaton.add_word(key, (len(key), found))
        self._automaton.make_automaton()

    def find(self, text: str) -> list[Match]:
        """Every place where a term stands in `text`, by its end; terms within terms are all found."""
        if not len(self._automaton):
            return []
        folded = fold(text)
        return [
            match
            for last, (length, entries) in self._automaton.iter(folded.text)
            if _whole(folded, last - length + 1, last)
            for match in _matches(text, folded, last - length + 1, last, entries)
        ]


def _matches(text: str, folded: Folded, first: int, last: int, entries: list[_Entry]) -> Iterator[Match]:
    gaps = [folded.gap(i) for i in range(first, last)]
    start, end = int(folded.offsets[first]), int(folded.offsets[last]) + 1
    for entry in entries:
        strange = [gap for i, gap in enumerate(gaps) if i not in entry.free]
        if max(strange, default=0) <= entry.gap:
            yield Match(entry.list, entry.term, start, end, text[start:end], sum(strange))


def _whole(folded: Folded, first: int, last: int) -> bool:
    """Whether a match begins and ends with a word: `odds on` must not be found in `good son`."""
    edges = ((first - 1, first), (last, last + 1))
    return not any(_joined(folded, a, b) for a, b in edges if a >= 0 and b < len(folded.text))


def _joined(folded: Folded, a: int, b: int) -> bool:
    if folded.places[b] - folded.places[a] > 1:
        return False
    kinds = {_kind(folded.text[a]), _kind(folded.text[b])}
    return len(kinds) == 1 and "unspaced" not in kinds


@lru_cache(_CHARACTERS)
def _kind(character: str) -> str:
    """`digit`, `letter` of a script that puts spaces between words, or `unspaced` (Chinese, Japanese)."""
    if unicodedata.category(character)[0] == "N":
        return "digit"
    # Lo: letters without case, among them the scripts of East Asia, which have no spaces to go by.
    return "unspaced" if unicodedata.category(character) == "Lo" else "letter"
