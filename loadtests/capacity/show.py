"""What was found, in words, as a table, and as a picture of the steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from rich.markup import escape
from rich.table import Table

from loadtests.capacity.loads import Load
from loadtests.capacity.record import nearest
from loadtests.capacity.steps import LoadStep
from loadtests.knee import CONFIDENCE, Ended, Knee
from loadtests.report import style

_MARKS = {"held": ("o", style.GOOD), "missed": ("X", style.BAD), "unknown": ("s", style.FAINT)}
_LABELS = {"held": "held", "missed": "did not hold", "unknown": "says nothing: the generator was too slow"}
_ENDED: dict[Ended, str] = {
    "width": "",
    "steps": "no steps were left (--steps)",
    "generator": "the generator could not do more (--workers)",
    "lowest": "lower loads need longer steps (--step-s)",
    "highest": "nothing was too much",
    "stopped": "interrupted",
}
_LEAST, _MOST = 0.05, 20.0
"""Ends of the chart's scale of limits."""


def interval(knee: Knee[LoadStep]) -> str:
    """`10.5 (10 to 11)`, `at least 40`, `below 2` or `not known`: requests a second."""
    low, high = (_rate(each) if each is not None else "" for each in (knee.at_least, knee.below))
    if knee.rate is not None:
        return f"{_rate(knee.rate)} ({low} to {high})"
    return f"at least {low}" if low else f"below {high}" if high else "not known"


def step_line(site: str, load: Load, knee: Knee[LoadStep]) -> str:
    """The last step, and what is known after it."""
    step = knee.steps[-1]
    mark = {"held": "[green]held[/]", "missed": "[red]missed[/]", "unknown": "[yellow]says nothing[/]"}
    reason = f" ({escape(step.reason)})" if step.reason else ""
    return (
        f"{site} {load.title} {len(knee.steps):2}: {_rate(step.rate)}/s {mark[step.outcome]}{reason}; "
        f"knee {interval(knee)}"
    )


def table(found: Iterable[tuple[str, Load, Knee[LoadStep]]]) -> Table:
    """One line for each search."""
    shown = Table("site", "load", f"knee/s ({CONFIDENCE:.0%})", box=None, pad_edge=False, header_style="dim")
    for heading in ("p50 ms", "p99 ms", "in flight", "steps"):
        shown.add_column(heading, justify="right")
    for site, load, knee in found:
        near = nearest(knee)
        figures = (
            [f"{near.p50_ms:,.0f}", f"{near.p99_ms:,.0f}", f"{near.concurrency:.1f}"] if near else [""] * 3
        )
        shown.add_row(site, load.title, interval(knee), *figures, str(len(knee.steps)))
    return shown


def notes(found: Iterable[tuple[str, Load, Knee[LoadStep]]]) -> Iterator[str]:
    """Why a search came no closer, for those of which there is something to say."""
    for site, load, knee in found:
        if why := _ENDED[knee.ended]:
            yield f"{site} {load.title}: {why}"


def chart(path: Path, site: str, load: Load, knee: Knee[LoadStep]) -> Path:
    """Draw every step: its load, and how near it came to the objective that it was nearest to."""
    with style.look(style.WIDE.points):
        note = "; ".join(filter(None, [f"{interval(knee)} requests a second", _ENDED[knee.ended]]))
        height = 2.9 + style.head_height(note)
        figure = style.new_figure(style.WIDE, height)
        rest = style.titled(figure, f"Capacity of {site}: {load.title}", height, note)
        axes = rest.subplots()
        _draw(axes, knee)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160)
    return path


def _draw(axes: Axes, knee: Knee[LoadStep]) -> None:
    low, high = knee.at_least, knee.below
    rates = [step.rate for step in knee.steps]
    ends = (min(rates) / 1.3, max(rates) * 1.3)
    if low is not None or high is not None:
        axes.axvspan(low or ends[0], high or ends[1], color=style.GRID, zorder=0, label="the knee lies here")
    if knee.rate is not None:
        axes.axvline(knee.rate, color=style.INK, linewidth=1)
    axes.axhline(1, color=style.BAD, linewidth=1, linestyle=(0, (4, 2)), label="limit")
    for outcome, (marker, colour) in _MARKS.items():
        steps = [step for step in knee.steps if step.outcome == outcome]
        if steps:
            axes.scatter(
                [step.rate for step in steps], [_clipped(step) for step in steps], marker=marker, s=34,
                color=colour, edgecolor=style.PAPER, linewidth=0.6, zorder=3, label=_LABELS[outcome],
            )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=(_LEAST, _MOST))
    axes.set_xlabel("requests a second")
    axes.set_ylabel("nearest objective")
    axes.xaxis.set_major_locator(LogLocator(10, subs=_ticks(ends)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}× limit"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.legend(loc="best")


def _ticks(ends: tuple[float, float]) -> Sequence[float]:
    return (1.0, 2.0, 5.0) if ends[1] > 8 * ends[0] else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)


def _clipped(step: LoadStep) -> float:
    return min(max(step.strain, _LEAST * 1.1), _MOST / 1.1)


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
