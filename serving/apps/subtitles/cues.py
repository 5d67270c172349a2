"""Cues from words, by broadcast rules: a pure planner.

Rules, from the strongest to the weakest; where two cannot both be kept, the stronger one is:

1. All text, in order; cues do not overlap and are `gap_frames` apart.
2. Lines no wider than `columns`, two of them at most. A single word wider than a line is cut.
3. No cue longer than `longest_s`.
4. No break inside a word or a number.
5. No cue shorter than `shortest_s`, none faster than `speed` characters a second. A cue stays on after its
   last word as long as these ask, up to the next cue. Speech too fast for that stays too fast: no text is
   left out.
6. Breaks at sentences before clauses before phrases before words; no long pause in a cue; balanced lines.

A cue begins with its first word. Among all ways to cut the words that keep rules 1 to 4 the one of the least
cost is chosen (dynamic programming over words), where breaking rule 5 costs more than anything in rule 6.
Sources of the numbers: Netflix Timed Text Style Guides for Simplified Chinese and English; EBU-TT-D practice.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from serving.apps.subtitles.phrases import Break, breaks
from serving.apps.subtitles.transcript import Word

DEFAULT_FRAME_RATE = 25.0


@dataclass(frozen=True)
class Rules:
    """What a broadcaster asks of a cue."""

    columns: float
    """Width of a line in characters; a half-width one counts half where `wide` is set."""
    speed: float
    """Characters a second at most, counted as for `columns`."""
    wide: bool
    """Characters are counted by their width: 1 for a full-width one, 0.5 for others."""
    shortest_s: float = 5 / 6
    longest_s: float = 7.0
    gap_frames: int = 2
    frame_rate: float = DEFAULT_FRAME_RATE

    @classmethod
    def of(cls, language: str, frame_rate: float = DEFAULT_FRAME_RATE) -> Rules:
        """The rules for a language, by its ISO 639 code."""
        if language in ("zh", "yue", "ja", "ko"):
            return cls(columns=16, speed=9, wide=True, frame_rate=frame_rate)
        return cls(columns=42, speed=17, wide=False, frame_rate=frame_rate)

    def width(self, text: str) -> float:
        """Of `text`, in columns."""
        if not self.wide:
            return float(sum(not unicodedata.combining(character) for character in text))
        return sum(map(_columns, text))


def _columns(character: str) -> float:
    if unicodedata.combining(character):
        return 0.0
    return 1.0 if unicodedata.east_asian_width(character) in "WFA" else 0.5


@dataclass(frozen=True)
class Cue:
    """One subtitle on screen."""

    start: float
    """Seconds, on a frame."""
    end: float
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Atom:
    """What is never broken: a word with the punctuation that belongs to it."""

    text: str
    start: float
    end: float
    after: Break
    """How good a break after it is."""


_FAULT = 1000.0
"""For a cue that breaks rule 5 entirely; less in proportion."""
_PER_CUE = 3.0
_PAUSE_S = 0.5
"""A pause from which on a cue had better end."""
_PER_PAUSE_S = 20.0
_CUE_BREAK = {Break.SENTENCE: 0.0, Break.CLAUSE: 3.0, Break.PHRASE: 12.0, Break.WORD: 24.0}
_LINE_BREAK = {Break.SENTENCE: 0.0, Break.CLAUSE: 0.5, Break.PHRASE: 4.0, Break.WORD: 10.0}
_IMBALANCE = 6.0
"""For lines of which one is empty; less in proportion."""


def plan(words: Sequence[Word], rules: Rules) -> tuple[Cue, ...]:
    """The cues of `words`, whose texts joined are the text and whose times do not go back."""
    planner = _Planner(_atoms(words, rules), rules)
    return planner.timed(planner.groups())


def _atoms(words: Sequence[Word], rules: Rules) -> list[_Atom]:
    text = "".join(word.text for word in words)
    times = _character_times(words)
    places = breaks(text)
    atoms: list[_Atom] = []
    edges = [0, *places, len(text)] if text else []
    for begin, end in pairwise(edges):
        for first, last in _cut_to_width(text, begin, end, rules):
            piece = text[first:last]
            sound = [times[i] for i in range(first, last) if not text[i].isspace()]
            if sound:
                atoms.append(_Atom(piece, sound[0][0], sound[-1][1], places.get(last, Break.WORD)))
    return _ordered(atoms)


def _character_times(words: Sequence[Word]) -> list[tuple[float, float]]:
    """Start and end of every character: a word's time in equal parts, its leading space none of it."""
    times: list[tuple[float, float]] = []
    for word in words:
        spaces = len(word.text) - len(word.text.lstrip())
        count = max(1, len(word.text) - spaces)
        step = (word.end - word.start) / count
        times += [(word.start, word.start)] * spaces
        times += [
            (word.start + i * step, word.start + (i + 1) * step) for i in range(len(word.text) - spaces)
        ]
    return times


def _cut_to_width(text: str, begin: int, end: int, rules: Rules) -> list[tuple[int, int]]:
    """`text[begin:end]` as it is, or in parts when it is wider than a line."""
    parts, first = [], begin
    for at in range(begin + 1, end):
        if rules.width(text[first : at + 1].strip()) > rules.columns and text[first:at].strip():
            parts.append((first, at))
            first = at
    return [*parts, (first, end)]


def _ordered(atoms: list[_Atom]) -> list[_Atom]:
    """Recognisers' times may overlap a little: none begins or ends before the one before."""
    ordered: list[_Atom] = []
    at = 0.0
    for atom in atoms:
        start = max(atom.start, at)
        at = max(atom.end, start)
        ordered.append(_Atom(atom.text, start, at, atom.after))
    return ordered


class _Planner:
    """Cuts atoms into groups, one for each cue. Sums over atoms make a group's cost cheap."""

    def __init__(self, atoms: Sequence[_Atom], rules: Rules) -> None:
        self._atoms = atoms
        self._rules = rules
        widths = [rules.width(atom.text) for atom in atoms]
        self._before = [0.0, *accumulate(widths)]
        """Width of all text before an atom."""
        self._leading = [rules.width(atom.text) - rules.width(atom.text.lstrip()) for atom in atoms]
        self._trailing = [rules.width(atom.text) - rules.width(atom.text.rstrip()) for atom in atoms]
        pauses = [max(0.0, after.start - atom.end - _PAUSE_S) for atom, after in pairwise(atoms)]
        self._paused = [0.0, *accumulate(pauses)]
        """Seconds of long pauses between the first atom and an atom."""

    def groups(self) -> list[tuple[int, int]]:
        """The cheapest cut: the first atom, and one after the last, of each cue."""
        atoms = self._atoms
        costs = [0.0] + [math.inf] * len(atoms)
        begin = [0] * len(costs)
        for first, atom in enumerate(atoms):
            limit = atom.start + self._rules.longest_s
            for last in range(first + 1, len(atoms) + 1):
                at = self._line_break(first, last)
                if at is None or (last > first + 1 and atoms[last - 1].end > limit):
                    break
                cost = costs[first] + self._cost(first, last) + at[0]
                if cost < costs[last]:
                    costs[last], begin[last] = cost, first
        groups, last = [], len(atoms)
        while last:
            groups.append((begin[last], last))
            last = begin[last]
        return groups[::-1]

    def timed(self, groups: Sequence[tuple[int, int]]) -> tuple[Cue, ...]:
        """Cues with times on frames: in whole frames nothing is lost to rounding."""
        rate, gap = self._rules.frame_rate, self._rules.gap_frames
        longest = math.floor(self._rules.longest_s * rate)
        starts: list[int] = []
        for first, _ in groups:
            # Words at one and the same time, which speech has not: each cue still gets a frame.
            least = starts[-1] + 1 + gap if starts else 0
            starts.append(max(least, math.floor(self._atoms[first].start * rate + 1e-6)))
        cues = []
        for (first, last), start, following in zip(groups, starts, [*starts[1:], math.inf], strict=False):
            spoken = math.ceil(self._atoms[last - 1].end * rate - 1e-6)
            wanted = start + math.ceil(self._wanted(first, last) * rate - 1e-6)
            end = min(max(spoken, wanted), start + longest, following - gap)
            cues.append(Cue(start / rate, max(end, start + 1) / rate, self._lines(first, last)))
        return tuple(cues)

    def _width(self, first: int, last: int) -> float:
        """Of a line of these atoms."""
        whole = self._before[last] - self._before[first]
        return whole - self._leading[first] - self._trailing[last - 1]

    def _line_break(self, first: int, last: int) -> tuple[float, int] | None:
        """Cost and place of a cue's best line break; `last` for a single line, None when it does not fit."""
        columns = self._rules.columns
        if self._width(first, last) <= columns:
            return 0.0, last
        best: tuple[float, int] | None = None
        for at in range(last - 1, first, -1):
            below = self._width(at, last)
            if below > columns:
                break
            above = self._width(first, at)
            if above > columns:
                continue
            imbalance = abs(above - below) / (above + below)
            cost = _LINE_BREAK[self._atoms[at - 1].after] + _IMBALANCE * imbalance
            if best is None or cost < best[0]:
                best = cost, at
        return best

    def _lines(self, first: int, last: int) -> tuple[str, ...]:
        place = self._line_break(first, last)
        edges = [first, last] if place is None or place[1] == last else [first, place[1], last]
        return tuple(
            "".join(atom.text for atom in self._atoms[begin:end]).strip() for begin, end in pairwise(edges)
        )

    def _cost(self, first: int, last: int) -> float:
        """Of a cue, but for its line break."""
        final = self._atoms[last - 1]
        broken, room = 0.0, self._rules.longest_s
        if last < len(self._atoms):
            following = self._atoms[last].start
            broken = _CUE_BREAK[final.after]
            if following - final.end >= _PAUSE_S:
                broken = min(broken, _CUE_BREAK[Break.CLAUSE])
            gap = self._rules.gap_frames / self._rules.frame_rate
            room = min(room, max(0.0, following - gap - self._atoms[first].start))
        lacking = 1 - min(1.0, room / self._wanted(first, last))
        paused = self._paused[last - 1] - self._paused[first]
        return _PER_CUE + broken + _PER_PAUSE_S * paused + _FAULT * lacking

    def _wanted(self, first: int, last: int) -> float:
        """Seconds that a cue should stay."""
        reading = self._width(first, last) / self._rules.speed
        return min(self._rules.longest_s, max(self._rules.shortest_s, reading))
