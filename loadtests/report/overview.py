"""One picture with all that matters, to pass on where a page cannot go."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.patches import Rectangle

from loadtests.report import charts, facts, latency, style, traffic
from loadtests.report.facts import Row
from loadtests.report.style import Look, Place
from loadtests.report.view import View
from loadtests.results import Verdict

PAGE = Look(8.27, 7.5)
"""A4's width."""
_HALF = Look(4.1, 7, wide=False)
_TONES: dict[Verdict, tuple[str, str]] = {
    "held": (style.GOOD, "#edf7f2"),
    "missed": (style.BAD, "#fdf1eb"),
    "invalid": (style.BAD, "#f9dccd"),
    "none": (style.WARN, "#fdf6e6"),
}
_ROWS, _FACTS = 10, 7
"""Objectives and figures that are shown."""
_HEAD = 1.75
"""Inches."""


def png(view: View) -> bytes:
    """The overview."""
    rows = facts.objectives(view.result)[:_ROWS]
    heights = [
        _HEAD,
        max(2.2, 0.7 + 0.21 * len(rows)),
        0.5 + latency.over_time_height(view, PAGE) * 0.8,
        3.6,
    ]
    with style.look(PAGE.points):
        figure = style.new_figure(PAGE, sum(heights))
        head, judged, over_time, below = figure.subfigures(4, 1, squeeze=False, height_ratios=heights)[:, 0]
        _head(head, view)
        left, right = judged.subfigures(1, 2, squeeze=False)[0]
        _objectives(style.titled(left, "Objectives", heights[1]), rows)
        traffic.ways(style.titled(right, "Where requests went", heights[1]), view, _HALF)
        events = charts.events_key(view.result)
        latency.over_time(
            style.titled(over_time, "Response time over the run", heights[2], events), view, PAGE
        )
        left, right = below.subfigures(1, 2, squeeze=False)[0]
        traffic.throughput(style.titled(left, "Throughput", heights[3]), view, _HALF)
        latency.curves(style.titled(right, "How response times are spread", heights[3]), view, _HALF)
        style.stamp(figure, view.result)
        return charts.save(figure, "png")


def _head(place: Place, view: View) -> None:
    result = view.result
    tone, back = _TONES[result.verdict]
    axes = place.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, PAGE.width), ylim=(_HEAD, 0))
    axes.text(style.MARGIN, 0.2, result.campaign.title, va="center", fontsize=14, fontweight="bold")
    axes.text(style.MARGIN, 0.45, facts.origin(result), va="center", color=style.SOFT)
    axes.add_patch(
        Rectangle((style.MARGIN, 0.62), PAGE.width - 2 * style.MARGIN, 0.56, color=back, linewidth=0)
    )
    axes.add_patch(Rectangle((style.MARGIN, 0.62), 0.07, 0.56, color=tone, linewidth=0))
    headline = textwrap.shorten(facts.headline(result), 80, placeholder=" …")
    axes.text(0.3, 0.79, headline, va="center", fontsize=12, fontweight="bold", color=tone)
    axes.text(0.3, 1.03, textwrap.shorten(facts.summary(result), 130, placeholder=" …"), va="center")
    shown = facts.facts(result)[:_FACTS]
    for number, fact in enumerate(shown):
        x = style.MARGIN + number * (PAGE.width - 2 * style.MARGIN) / max(4, len(shown))
        axes.text(x, 1.36, fact.name, va="center", color=style.SOFT)
        axes.text(x, 1.6, fact.value, va="center", fontsize=12, fontweight="bold")


def _objectives(place: Place, rows: Sequence[Row]) -> None:
    axes = place.subplots()
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(max(6, len(rows)) - 0.3, -0.7))
    if not rows:
        axes.text(0, 0, "The campaign has none.", va="center", color=style.SOFT)
    for number, row in enumerate(rows):
        mark, colour = {True: ("held", style.GOOD), False: ("missed", style.BAD), None: ("–", style.SOFT)}[
            row.held
        ]
        axes.text(0, number, row.objective, va="center")
        axes.text(0.42, number, row.asked, va="center", color=style.SOFT)
        axes.text(0.84, number, row.measured, va="center", ha="right", fontweight="bold")
        axes.text(0.88, number, mark, va="center", color=colour, fontweight="bold")
        axes.axhline(number + 0.5, color=style.GRID, linewidth=0.8)
