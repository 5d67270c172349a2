"""A run in words on the terminal, as JSON for scripts, and as an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from loadtests.arrivals import mean_rate
from loadtests.campaign import Arrival, Campaign, Work
from loadtests.engine.happenings import words
from loadtests.results import Judged, Result, Verdict
from loadtests.verdict import headline

HELD, MISSED, UNUSABLE = 0, 1, 2
_COLOURS: dict[Verdict, str] = {"held": "green", "missed": "red", "invalid": "red", "none": "yellow"}
_BARS = " ▁▂▃▄▅▆▇█"
_COLUMNS = 60


def exit_code(result: Result) -> int:
    """0: all objectives held, or there are none; 1: one did not; 2: the run cannot say."""
    if result.verdict == "invalid" or not result.complete:
        return UNUSABLE
    return MISSED if result.verdict == "missed" else HELD


def summary(result: Result, folder: Path) -> dict[str, Any]:
    """The figures that scripts ask for."""
    response = result.histogram("response")
    right = sum(one.right for one in result.series)
    return {
        "run": result.run,
        "folder": str(folder.absolute()),
        "campaign": result.campaign.campaign,
        "verdict": result.verdict,
        "complete": result.complete,
        "ended_by": result.ended_by,
        "seconds": round(result.seconds, 3),
        "sent": result.sent,
        "right": right,
        "failed": result.sent - right,
        "response_ms": {f"p{percent:g}": response.percentile_ms(percent) for percent in (50, 90, 99, 99.9)},
        "judged": [each.model_dump() for each in result.judged],
        "errors": [each.model_dump() for each in result.errors],
        "events": [each.model_dump() for each in result.events],
        "generator": result.generator.model_dump(),
    }


def show_result(console: Console, result: Result, folder: Path) -> None:
    """The verdict, what it rests on, and where to read on."""
    colour = "bold" if result.complete and not result.judged else f"bold {_COLOURS[result.verdict]}"
    console.print(f"\n[{colour}]{escape(headline(result))}.[/]")
    if not result.complete:
        console.print(f"[yellow]It ended after {result.seconds:.0f} s.[/]")
    if result.verdict == "invalid":
        console.print("These figures mean nothing:")
    for problem in result.generator.problems:
        console.print(f"  {escape(problem)}")
    if result.judged:
        table = Table("objective", "limit", "found", "", box=None, pad_edge=False, header_style="dim")
        counts = result.verdict in ("held", "missed")
        for each in result.judged:
            mark = ("[green]held[/]" if each.held else "[red]missed[/]") if counts else ""
            table.add_row(each.objective, _value(each, each.limit), _value(each, each.value), mark)
        console.print(table)
    right = sum(one.right for one in result.series)
    response, service = result.histogram("response"), result.histogram("service")
    console.print(f"{result.sent:,} requests judged, {right:,} answered rightly in {result.seconds:.0f} s")
    console.print(
        f"response p50 {response.percentile_ms(50):,.0f} ms, p99 {response.percentile_ms(99):,.0f} ms; "
        f"service p50 {service.percentile_ms(50):,.0f} ms, p99 {service.percentile_ms(99):,.0f} ms"
    )
    for error in result.errors[:5]:
        console.print(f"[red]{error.count:,} × {error.outcome}[/] at {error.work}: {escape(error.example)}")
    report = folder / "report.html"
    console.print(f"report: {report if report.exists() else folder}")


def _value(judged: Judged, value: float | None) -> str:
    if value is None:
        return "nothing measured"
    return {"ms": f"{value:,.0f} ms", "share": f"{value:.2%}", "count": f"{value:,.0f}"}[judged.unit]


def show_campaign(console: Console, campaign: Campaign) -> None:
    """A declaration in words."""
    console.print(f"[bold]{campaign.campaign}[/]: {escape(campaign.title)}")
    console.print(
        f"{campaign.seconds:g} s, the first {campaign.warm_up_s:g} s not judged; seed {campaign.seed}"
    )
    console.print(f"\n{_curve(campaign)}")
    console.print("\nSent:")
    whole = sum(work.weight for work in campaign.workload)
    for work in campaign.workload:
        console.print(f"  {work.name}: {_work(work)}, {work.weight / whole:.0%} of the mix", markup=False)
    console.print("Arrivals:")
    for arrival in campaign.arrivals:
        console.print(f"  {_arrival(arrival)}", markup=False)
    if campaign.events:
        console.print("Meanwhile:")
        for event in sorted(campaign.events, key=lambda each: each.at_s):
            console.print(f"  at {event.at_s:g} s: {words(event)}")
    console.print("Must hold:" if (found := _objectives(campaign)) else "No objectives.")
    for line in found:
        console.print(f"  {line}")


def _curve(campaign: Campaign) -> str:
    step = campaign.seconds / _COLUMNS
    rates = [mean_rate(campaign, (number + 0.5) * step) for number in range(_COLUMNS)]
    highest = max(rates) or 1.0
    bars = "".join(_BARS[round(rate / highest * (len(_BARS) - 1))] for rate in rates)
    return f"{bars}  up to {max(rates):.3g} requests a second"


def _work(work: Work) -> str:
    batch = f" × {work.batch}" if work.batch > 1 else ""
    return f"{work.input}{batch} to {work.pool} by {work.client}, {work.class_}"


def _arrival(arrival: Arrival) -> str:
    known = arrival.model_dump(exclude={"kind", "site", "work"}, exclude_none=True)
    where = f"at {arrival.site}" if arrival.site else "at every front door alike"
    what = f"of {', '.join(arrival.work)} " if arrival.work else ""
    return f"{arrival.kind} {what}{where}: " + ", ".join(f"{key} {value}" for key, value in known.items())


def _objectives(campaign: Campaign) -> list[str]:
    objectives = campaign.objectives
    lines = [
        f"{class_} {name.removesuffix('_ms')} at most {limit:g} ms"
        for class_, latency in objectives.classes.items()
        for name, limit in latency.model_dump(exclude_none=True).items()
    ]
    if objectives.error_rate is not None:
        lines.append(f"at most {objectives.error_rate:.2%} of the requests fail")
    if objectives.goodput is not None:
        lines.append(f"at least {objectives.goodput:.2%} are answered rightly and in time")
    if objectives.character_error_rate is not None:
        lines.append(f"at most {objectives.character_error_rate:.2%} character errors in subtitles")
    return lines
