"""Whether a run's objectives held. A run that cannot tell gets no verdict, however good its figures look."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from loadtests.results import Judged, Result, Verdict
from serving.fleet import Class

_ENDED = {
    "interrupt": "the run was interrupted",
    "worker": "a worker died",
    "requests": "the limit of requests ended the run",
    "spend": "the limit of spending ended the run",
}


def judge(result: Result) -> Result:
    """The same result with `judged` and `verdict` filled.

    `judged` tells what was measured even where there is no verdict. An objective that nothing was measured
    for does not hold.
    """
    judged = list(_judged(result))
    return result.model_copy(update={"judged": judged, "verdict": _verdict(result, judged)})


def _verdict(result: Result, judged: list[Judged]) -> Verdict:
    if result.generator.problems:
        return "invalid"
    if not (result.complete and judged):
        return "none"
    return "held" if all(each.held for each in judged) else "missed"


def _judged(result: Result) -> Iterator[Judged]:
    objectives = result.campaign.objectives
    for class_, latency in objectives.classes.items():
        for percent, limit in ((50, latency.p50_ms), (99, latency.p99_ms)):
            if limit is not None:
                value = _percentile_ms(result, class_, percent)
                yield _at_most(f"{class_} p{percent}", limit, value, "ms")
    sent, right = result.sent, sum(one.right for one in result.series)
    if objectives.error_rate is not None:
        yield _at_most("error rate", objectives.error_rate, (sent - right) / sent if sent else None, "share")
    if (least := objectives.goodput) is not None:
        share = sum(one.within for one in result.series) / sent if sent else None
        held = share is not None and share >= least
        yield Judged(objective="goodput", limit=least, value=share, unit="share", held=held)
    if objectives.character_error_rate is not None:
        characters = sum(one.characters for one in result.series)
        errors = sum(one.edits for one in result.series) / characters if characters else None
        yield _at_most("character error rate", objectives.character_error_rate, errors, "share")


def _percentile_ms(result: Result, class_: Class, percent: float) -> float | None:
    latencies = result.histogram("response", lambda one: one.class_ == class_)
    return latencies.percentile_ms(percent) if latencies.count else None


def _at_most(objective: str, limit: float, value: float | None, unit: Literal["ms", "share"]) -> Judged:
    held = value is not None and value <= limit
    return Judged(objective=objective, limit=limit, value=value, unit=unit, held=held)


def headline(result: Result) -> str:
    """The verdict in a few words, for the head of a report or the end of a command."""
    match result.verdict:
        case "held":
            many = len(result.judged)
            return "The objective held" if many == 1 else f"All {many} objectives held"
        case "missed" if not result.sent:
            return "Missed: no request was judged"
        case "missed":
            missed = [each.objective for each in result.judged if not each.held]
            return f"Missed: {', '.join(missed)}"
        case "invalid":
            return "Invalid: the generator was the bottleneck"
        case "none":
            if result.complete:
                return "No verdict: the campaign has no objectives"
            return f"No verdict: {_ENDED.get(result.ended_by, f'ended by `{result.ended_by}`')}"
