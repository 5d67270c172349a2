"""What a report says in words and tables, read from a result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from loadtests import verdict
from loadtests.histogram import Histogram
from loadtests.report import words
from loadtests.results import Judged, Result, Series

_LIMIT_AT = 0.6
"""Where on its bar an objective's limit stands."""


@dataclass(frozen=True)
class Fact:
    """A figure worth large letters."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One objective."""

    objective: str
    asked: str
    measured: str
    held: bool | None
    """None: the run gives no verdict."""
    filled: float
    """Of its bar, 0 to 1; the limit stands at `Row.limit_at`."""
    limit_at: float = _LIMIT_AT


@dataclass(frozen=True)
class WorkRow:
    """What became of one kind of request."""

    work: str
    class_: str
    pool: str
    client: str
    sent: str
    right: str
    p50: str
    p99: str
    attempts: str
    character_errors: str


def summary(result: Result) -> str:
    """What was done, in a sentence; or, of a run without a verdict, what its figures are not worth."""
    sent = sum(one.sent for one in result.slices)
    done = f"{sent:,} requests in {words.length(result.seconds)} to {words.listed(list(result.targets))}"
    if result.verdict == "invalid":
        return f"These figures say nothing about the fleet. {done}."
    if not result.complete:
        asked = words.length(result.campaign.seconds)
        return f"This is a partial report: the campaign asks for {asked}. {done}."
    return f"{done}."


def facts(result: Result) -> list[Fact]:
    """The figures at the head of a report, of what was judged."""
    sent, seconds = result.sent, result.judged_s
    right = sum(one.right for one in result.series)
    within = sum(one.within for one in result.series)
    found = [
        Fact("offered", words.rate(sent / seconds) if seconds else "–", f"{sent:,} requests judged"),
        Fact("answered rightly", words.share(right / sent) if sent else "–", f"{sent - right:,} not"),
    ]
    if any(each.p99_ms for each in result.campaign.objectives.classes.values()):
        found.append(
            Fact(
                "goodput", words.share(within / sent) if sent else "–", "right, and within the p99 objective"
            )
        )
    for class_ in dict.fromkeys(work.class_ for work in result.campaign.workload):
        histogram = result.histogram("response", lambda one, class_=class_: one.class_ == class_)  # type: ignore[misc]
        if histogram.count:
            p50, p99 = (words.ms(histogram.percentile_ms(percent)) for percent in (50, 99))
            found.append(Fact(f"{class_} p99", p99, f"p50 {p50}"))
    elsewhere = sum(one.sent for one in result.series if one.site and one.site != one.door)
    if len(result.targets) > 1 and sent:
        found.append(
            Fact("answered elsewhere", words.share(elsewhere / sent), "by another site than was asked")
        )
    return found


def objectives(result: Result) -> list[Row]:
    """Every objective and what came of it."""
    counts = result.verdict in ("held", "missed")
    return [
        Row(
            objective=judged.objective,
            asked=words.limit(judged),
            measured=words.value(judged),
            held=judged.held if counts else None,
            filled=_filled(judged),
        )
        for judged in result.judged
    ]


def _filled(judged: Judged) -> float:
    if judged.value is None:
        return 0.0
    value, limit = judged.value, judged.limit
    if judged.objective == "goodput":
        # What is missing from everything, against what may be missing.
        value, limit = 1 - value, 1 - limit
    return min(1.0, _LIMIT_AT * value / limit) if limit > 0 else float(value > 0)


def works(result: Result) -> list[WorkRow]:
    """One row for each work, in the campaign's order."""
    return list(_works(result))


def _works(result: Result) -> Iterator[WorkRow]:
    for work in result.campaign.workload:
        series = [one for one in result.series if one.work == work.name]
        sent, right = sum(one.sent for one in series), sum(one.right for one in series)
        latencies = Histogram.sum(Histogram.decode(one.response) for one in series)
        yield WorkRow(
            work=work.name,
            class_=work.class_,
            pool=work.pool,
            client=work.client,
            sent=f"{sent:,}",
            right=words.share(right / sent) if sent else "–",
            p50=words.ms(latencies.percentile_ms(50)) if right else "–",
            p99=words.ms(latencies.percentile_ms(99)) if right else "–",
            attempts=f"{sum(one.attempts for one in series) / sent:.3f}" if sent else "–",
            character_errors=_character_errors(series),
        )


def _character_errors(series: list[Series]) -> str:
    characters = sum(one.characters for one in series)
    return words.share(sum(one.edits for one in series) / characters) if characters else "–"


def generator(result: Result) -> list[Fact]:
    """How well the load was generated."""
    own = result.generator
    return [
        Fact("workers", f"{own.workers}"),
        Fact("busiest worker", words.share(own.cpu_share), "of one core"),
        Fact("event loop late, p99", words.ms(own.lag_p99_ms)),
        Fact(
            "requests sent late, p99",
            words.ms(own.slip_p99_ms),
            f"p50 {words.ms(own.slip_p50_ms)}, most {words.ms(own.slip_max_ms)}",
        ),
        Fact("CPU pressure", words.share(own.pressure), "of the time some task waited for a core"),
        Fact("stolen", words.share(own.steal), "of the machine, by its hypervisor"),
    ]


def origin(result: Result) -> str:
    """When, with what and where, in a line."""
    started = f"{result.started_at[:16].replace('T', ' ')} UTC"
    return f"{result.campaign.campaign} · {started} · headend {result.headend} · {result.hardware}"


def headline(result: Result) -> str:
    """The verdict in words."""
    return verdict.headline(result)
