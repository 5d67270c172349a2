"""What changed from A to B: ratios with intervals, and a verdict that may be that nothing was shown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

from loadtests.comparison import bootstrap
from loadtests.comparison.figures import MORE_IS_BETTER, Figure
from loadtests.comparison.seen import Seen, seen
from loadtests.report import words
from loadtests.results import Result
from models.errors import UsageError
from models.schema import Strict
from serving.fleet import Class

CONFIDENCE = 0.95
"""That no figure which decides lies outside of its interval."""
NEGLIGIBLE = 0.01
"""A smaller change of a ratio matters to nobody, however surely it was seen."""
FEWEST_ROUNDS = 3
_POWER = 0.84
"""Standard deviations beyond the interval at which four of five experiments see a difference."""
_FAR = 50.0
"""Logarithm beyond which a ratio says only that hardly anything is known."""
_HUGE = 100.0
"""A factor that nobody needs a load test to see."""
_LOSSES: frozenset[Figure] = frozenset({"errors", "goodput", "throughput"})
Change = Literal["worse", "better", "none"]


class Ratio(Strict):
    """One figure of B over A's."""

    class_: Class | None
    """None: all classes together."""
    figure: Figure
    decides: bool
    """Whether the verdict rests on it."""
    a: float
    b: float
    """Milliseconds, shares of 1, or right answers a second; of several rounds their geometric mean."""
    ratio: float
    low: float
    high: float
    visible: float
    """The smallest factor, above 1, that four of five such comparisons would have seen."""
    change: Change

    @property
    def latency(self) -> bool:
        """Whether it is a time."""
        return self.figure not in _LOSSES

    @property
    def name(self) -> str:
        """`live p99`, `goodput`."""
        return f"{self.class_} {self.figure}" if self.class_ else self.figure

    def __str__(self) -> str:
        return f"{self.name} {self.factor(self.ratio)} ({self.interval})"

    @property
    def interval(self) -> str:
        """`1.21 to 1.45`."""
        return f"{self.factor(self.low)} to {self.factor(self.high)}"

    def factor(self, value: float) -> str:
        """With as many digits as the interval makes sense of."""
        close = max(abs(self.low - 1), abs(self.high - 1)) < 0.1
        return "> 1,000" if value >= 1000 else f"{value:.{3 if close else 2}f}"


class Comparison(Strict):
    """All of it."""

    campaign: str
    a: list[str]
    b: list[str]
    """The runs."""
    method: str
    """What the intervals rest on."""
    confidence: float
    """Of each interval; together, those that decide have `CONFIDENCE`."""
    ratios: list[Ratio]
    verdict: Change
    words: str
    notes: list[str]
    """What a reader should know besides."""


def compare(a: Sequence[Result], b: Sequence[Result]) -> Comparison:
    """Compare runs of A with runs of B: one each, or rounds in pairs.

    Raises `UsageError` when they are not runs of one campaign, or not good ones.
    """
    _comparable(a, b)
    scopes = _scopes(a[0])
    deciding = set(_deciding(scopes))
    confidence = 1 - (1 - CONFIDENCE) / len(deciding)
    ratios = [
        _ratio(one, (class_, figure) in deciding, confidence)
        for class_ in scopes
        for figure, one in seen(a, b, class_, confidence).items()
    ]
    if not ratios:
        raise UsageError("nothing was measured in both that could be compared")
    return Comparison(
        campaign=a[0].campaign.campaign,
        a=[one.run for one in a],
        b=[one.run for one in b],
        method=_method(a),
        confidence=confidence,
        ratios=ratios,
        verdict=_verdict(ratios),
        words=_words(ratios),
        notes=list(_notes(a, b)),
    )


def _comparable(a: Sequence[Result], b: Sequence[Result]) -> None:
    if len(a) != len(b) or not (len(a) == 1 or len(a) >= FEWEST_ROUNDS):
        raise UsageError(
            f"{len(a)} runs of A and {len(b)} of B cannot be paired",
            hint=f"Compare one with one, or {FEWEST_ROUNDS} or more rounds of each.",
        )
    for one in (*a, *b):
        if one.verdict == "invalid":
            raise UsageError(
                f"run {one.run} is invalid: {'; '.join(one.generator.problems)}",
                hint="The generator was the bottleneck: its figures are not the fleet's.",
            )
        if not one.complete:
            raise UsageError(f"run {one.run} is partial: it ended by `{one.ended_by}`", hint="Run it again.")
        if different := _differences(a[0], one):
            runs = f"runs {a[0].run} and {one.run}"
            raise UsageError(
                f"{runs} are not of the same campaign: {words.listed(different)} differ",
                hint="Only the same campaign, seed included, offers the same load.",
            )


def _differences(one: Result, other: Result) -> list[str]:
    mine, theirs = (each.campaign.model_dump(mode="json", by_alias=True) for each in (one, other))
    return [key for key in mine if mine[key] != theirs[key] and key != "title"]


def _scopes(result: Result) -> list[Class | None]:
    """All together, and each class where there are several."""
    classes = list(dict.fromkeys(work.class_ for work in result.campaign.workload))
    return [None, *(classes if len(classes) > 1 else [])]


def _deciding(scopes: Sequence[Class | None]) -> Iterator[tuple[Class | None, Figure]]:
    """Latencies of each class, as a slower one may hide among faster ones; losses of all together."""
    for class_ in scopes[1:] or scopes:
        yield class_, "p50"
        yield class_, "p99"
    yield None, "errors"
    yield None, "goodput"


def _ratio(of: Seen, decides: bool, confidence: float) -> Ratio:
    low, high = (of.log + off for off in of.spread)
    visible = (of.spread[1] - of.spread[0]) / 2 * (1 + _POWER / bootstrap.normal(confidence))
    change: Change = "none"
    if low > 0 or high < 0:
        better = (of.log > 0) == (of.figure in MORE_IS_BETTER)
        if abs(of.log) >= math.log1p(NEGLIGIBLE):
            change = "better" if better else "worse"
    return Ratio(
        class_=of.class_,
        figure=of.figure,
        decides=decides,
        a=of.a,
        b=of.b,
        ratio=math.exp(of.log),
        low=_exp(low),
        high=_exp(high),
        visible=_exp(visible),
        change=change,
    )


def _exp(log: float) -> float:
    """Without overflow where hardly anything is known."""
    return math.exp(max(-_FAR, min(_FAR, log)))


def _verdict(ratios: Sequence[Ratio]) -> Change:
    changes = {one.change for one in ratios if one.decides}
    return "worse" if "worse" in changes else "better" if "better" in changes else "none"


def _words(ratios: Sequence[Ratio]) -> str:
    deciding = [one for one in ratios if one.decides]
    parts = [
        f"B {verb}: {', '.join(map(str, found))}"
        for change, slow, lossy in (
            ("worse", "is slower", "loses more"),
            ("better", "is faster", "loses less"),
        )
        for verb, latencies in ((slow, True), (lossy, False))
        if (found := [one for one in deciding if one.change == change and one.latency == latencies])
    ]
    if parts:
        return "; ".join(parts)
    visible = ", ".join(f"{one.name} {_apart(one.visible)}" for one in deciding)
    return f"No difference shown; one of this size would have been: {visible}"


def _apart(factor: float) -> str:
    if factor >= _HUGE:
        return "too few to say"
    return f"{factor:.1f}-fold" if factor >= 2 else f"{factor - 1:.{1 if factor < 1.1 else 0}%}"


def _method(a: Sequence[Result]) -> str:
    if len(a) > 1:
        return f"bootstrap over {len(a)} paired rounds"
    return "block bootstrap over time within one run each"


def _notes(a: Sequence[Result], b: Sequence[Result]) -> Iterator[str]:
    if len(a) == 1:
        yield (
            "One run each: the intervals cover what varied within the runs, not what changes from one to "
            "the next; interleaved rounds (`--target`, `--against`) cover both."
        )
    hardware = {one.hardware for one in (*a, *b)}
    if len(hardware) > 1:
        yield f"The hardware differs: {words.listed(sorted(hardware))}."
    if not any(one.right < one.sent for run in (*a, *b) for one in run.series):
        yield "No request failed in either."
