"""Whether an answer of an app is right. A fast wrong answer is an error.

What is compared is what a person would see: the words. Scores differ a little between precisions and
machines; words hardly do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from opencc import OpenCC
from rapidfuzz import fuzz
from rapidfuzz.distance import Levenshtein

from loadtests.inputs import Payload
from models.metric import plain

WRONG_ABOVE = 0.3
"""Character error rate from which an answer is wrong. Whisper base's own errors on these clips stay below;
cut or mixed-up sound is far above."""
READ_ABOVE = 80.0
"""Similarity (0 to 100) from which a line counts as read in a picture."""
PACKAGED_POLICY = "broadcast-example"
"""Findings are known for this policy only."""


@dataclass(frozen=True)
class Found:
    """What came of the check."""

    problem: str = ""
    """In a sentence; empty when the answer is right."""
    edits: int = 0
    """Characters that differ from a transcript, of `characters` in it."""
    characters: int = 0


def spoken(heard: str, payload: Payload) -> Found:
    """A transcript: character errors after `models.metric.plain`; Chinese is compared in Simplified."""
    wanted, got = plain(payload.text), plain(heard)
    if payload.language == "zh":
        got = plain(_simplified().convert(heard))
    edits = Levenshtein.distance(got, wanted)
    problem = f"heard “{heard}” in {payload.name}" if edits > WRONG_ABOVE * len(wanted) else ""
    return Found(problem, edits, len(wanted))


def subtitles(answer: Mapping[str, Any], payload: Payload) -> Found:
    """`verbose_json` with words and segments: the text, and times that follow each other in the clip."""
    found = spoken(answer["text"], payload)
    if found.problem:
        return found
    for kind in ("words", "segments"):
        times = [(item["start"], item["end"]) for item in answer[kind]]
        if not times or not _in_order(times, float(answer["duration"])):
            return Found(f"the times of the {kind} are not in order: {times}", found.edits, found.characters)
    return found


def review(answer: Mapping[str, Any], payload: Payload) -> Found:
    """A moderation: the text on pictures; under the packaged policy the findings, and nothing flagged
    without them.
    """
    result = answer["results"][0]
    headend = result["headend"]
    if payload.media_type != "text/plain":
        read = "".join(_read(headend["evidence"]))
        missed = [line for line in payload.lines if fuzz.partial_ratio(plain(line), read) < READ_ABOVE]
        if missed:
            return Found(f"“{missed[0]}” was not read in {payload.name}, but “{read}”")
    if headend["policy"]["name"] != PACKAGED_POLICY:
        return Found()
    flagged = {category for category, is_so in result["categories"].items() if is_so}
    if result["flagged"] != bool(payload.findings) or not payload.findings <= flagged:
        return Found(
            f"{payload.name} was found to be {sorted(flagged) or 'clean'}, "
            f"not {sorted(payload.findings) or 'clean'}"
        )
    return Found()


def _read(evidence: Mapping[str, Any]) -> Iterator[str]:
    for image in evidence["images"]:
        for frame in image["looked_at"]:
            for line in frame["lines"]:
                yield plain(line["text"])


def _in_order(times: list[tuple[float, float]], duration: float) -> bool:
    follow = all(before[0] <= after[0] for before, after in pairwise(times))
    return follow and all(0 <= begin <= end <= duration + 1 for begin, end in times)


@cache
def _simplified() -> OpenCC:
    return OpenCC("t2s")
