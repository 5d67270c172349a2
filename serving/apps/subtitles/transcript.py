"""What was heard, as plain data."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Word:
    """A word as heard, with the space before it if any: words joined are the text."""

    text: str
    start: float
    """Seconds from the clip's start."""
    end: float
    probability: float = 1.0


@dataclass(frozen=True)
class Segment:
    """One stretch of speech."""

    start: float
    """Seconds from the clip's start."""
    end: float
    words: tuple[Word, ...]
    language: str
    """ISO 639 code."""
    avg_logprob: float
    no_speech_probability: float

    @property
    def text(self) -> str:
        """The words joined."""
        return "".join(word.text for word in self.words).strip()


@dataclass(frozen=True)
class Transcript:
    """All of a clip."""

    segments: tuple[Segment, ...]
    duration: float
    """Of the clip, seconds."""

    @property
    def language(self) -> str:
        """ISO 639 code of most of the words; empty when nothing was heard."""
        heard: Counter[str] = Counter()
        for segment in self.segments:
            heard[segment.language] += len(segment.words)
        return heard.most_common(1)[0][0] if heard else ""

    @property
    def words(self) -> tuple[Word, ...]:
        """All words; segments are set apart by a space where the script has spaces."""
        found: list[Word] = []
        for segment in self.segments:
            if found and segment.words:
                first, *rest = segment.words
                found += [replace(first, text=joint(found[-1].text, first.text) + first.text.lstrip()), *rest]
            else:
                found += segment.words
        return tuple(found)

    @property
    def text(self) -> str:
        """The words joined."""
        return "".join(word.text for word in self.words).strip()


def joint(before: str, after: str) -> str:
    """What stands between two stretches of text: nothing between Chinese, Japanese or Thai, else a space."""
    left, right = before.rstrip()[-1:], after.lstrip()[:1]
    return "" if not left or not right or (is_spaceless(left) and is_spaceless(right)) else " "


_SPACELESS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x312F),  # CJK radicals, punctuation, kana, bopomofo
    (0x31A0, 0xA4CF),  # CJK ideographs and their extensions, Yi
    (0xF900, 0xFAFF),
    (0xFE30, 0xFE4F),
    (0xFF00, 0xFF60),  # full-width forms
    (0x20000, 0x3FFFF),
)


def is_spaceless(character: str) -> bool:
    """Whether words of the character's script are written without spaces between them."""
    return any(first <= ord(character) <= last for first, last in _SPACELESS)
