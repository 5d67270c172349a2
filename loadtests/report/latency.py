"""Charts of response times: over the run, and how they are spread."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter
from matplotlib.transforms import blended_transform_factory

from loadtests.campaign import Latency
from loadtests.report import style, words
from loadtests.report.style import Dash, Look, Place
from loadtests.report.view import Floats, View
from serving.fleet import Class

_MEDIAN = -math.log10(0.5)
"""Where 50% lies on an axis of nines."""
_DOTTED: Dash = (0, (1.2, 1.4))


def over_time_height(view: View, look: Look) -> float:
    """Inches."""
    return 0.55 + (1.75 if look.wide else 1.6) * max(1, len(view.classes))


def over_time(figure: Place, view: View, look: Look) -> None:
    """One row for each class, one colour for each answering site: p99 as a line, p50 thin below it."""
    rows = figure.subplots(max(1, len(view.classes)), 1, sharex=True, squeeze=False)[:, 0]
    if not any(one.right for one in view.result.slices):
        return style.nothing(rows[0], "Nothing was answered rightly.")
    for number, (axes, class_) in enumerate(zip(rows, view.classes, strict=True)):
        _one_class(axes, view, class_, look, named=number == 0)
    _legend(figure, view, look)


def _one_class(axes: Axes, view: View, class_: Class, look: Look, *, named: bool) -> None:
    at = view.coarse.middles
    objective = view.result.campaign.objectives.classes.get(class_, Latency())
    values: list[float] = [objective.p99_ms or 0]
    for site in view.sites:
        found = view.latencies(class_, site)
        colour, dash = style.site_line(view, site)
        if len(view.sites) == 1:
            axes.fill_between(at, found.p50, found.p99, color=colour, alpha=0.12, linewidth=0)
        _line(axes, at, found.p99, colour, dash, 1.6)
        _line(axes, at, found.p50, colour, dash, 0.8)
        values += [*found.p50, *found.p99]
    style.latency_axis(axes, values)
    style.time_axis(axes, view, look)
    for limit, percent in ((objective.p50_ms, 50), (objective.p99_ms, 99)):
        if limit and limit <= axes.get_ylim()[1]:
            _objective(axes, limit, percent)
    style.mark_time(axes, view, named=named)
    axes.set_title(class_)


def _objective(axes: Axes, limit: float, percent: int) -> None:
    axes.axhline(limit, color=style.INK, linewidth=0.9, linestyle=(0, (6, 3)), zorder=1.4)
    beside = blended_transform_factory(axes.transAxes, axes.transData)
    text = f"p{percent} ≤ {words.brief_ms(limit)}"
    axes.text(1.008, limit, text, transform=beside, va="center", fontsize="small", color=style.INK)


def _line(axes: Axes, at: Floats, values: Floats, colour: str, dash: Dash, width: float) -> None:
    axes.plot(at, values, color=colour, linestyle=dash, linewidth=width, solid_capstyle="round")
    known = ~np.isnan(values)
    alone = known & ~np.append(False, known[:-1]) & ~np.append(known[1:], False)
    axes.plot(at[alone], values[alone], "o", color=colour, markersize=1.5 + width)


def _legend(figure: Place, view: View, look: Look) -> None:
    handles = [
        *style.site_key(view),
        Line2D([], [], color=style.SOFT, linewidth=1.6, label="p99"),
        Line2D([], [], color=style.SOFT, linewidth=0.8, label="p50"),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=style.key_columns(handles, look))


def curves_height(view: View, look: Look) -> float:
    """Inches."""
    return 2.9 if look.wide else 2.8


def curves(figure: Place, view: View, look: Look) -> None:
    """Percentiles of each class on an axis that gives every further nine the same room."""
    axes = figure.subplots()
    if not view.curves:
        return style.nothing(axes, "Nothing was answered rightly.")
    values: list[float] = []
    for class_, (response, service) in view.curves.items():
        colour = style.class_colour(class_)
        axes.plot(service.nines, service.ms, color=colour, linewidth=1.1, linestyle=_DOTTED)
        axes.plot(response.nines, response.ms, color=colour, linewidth=1.9, label=class_)
        values += [*response.ms, *service.ms, *_objectives(axes, view, class_, colour)]
    style.latency_axis(axes, values)
    _percentile_axis(axes, max(float(response.nines[-1]) for response, _ in view.curves.values()))
    handles = [*axes.get_legend_handles_labels()[0], *_curve_key()]
    # Curves only rise, so this corner stays empty.
    axes.legend(handles=handles, loc="lower right", ncols=1 if len(handles) < 4 else 2)


def _objectives(axes: Axes, view: View, class_: Class, colour: str) -> Sequence[float]:
    objective = view.result.campaign.objectives.classes.get(class_, Latency())
    known = [
        (nines, limit) for nines, limit in ((_MEDIAN, objective.p50_ms), (2.0, objective.p99_ms)) if limit
    ]
    at, limits = [nines for nines, _ in known], [limit for _, limit in known]
    axes.plot(at, limits, "D", color=style.PAPER, markeredgecolor=colour, markersize=5, zorder=5)
    return limits


def _curve_key() -> list[Line2D]:
    return [
        Line2D([], [], color=style.SOFT, linewidth=1.1, linestyle=_DOTTED, label="service only"),
        Line2D([], [], color=style.PAPER, marker="D", mec=style.SOFT, markersize=5, label="objective"),
    ]


def _percentile_axis(axes: Axes, nines: float) -> None:
    places = [_MEDIAN, *range(1, max(2, math.floor(nines + 0.05)) + 1)]
    names = {place: f"{100 * (1 - 10**-place):.7g}%" for place in places}
    axes.set_xlim(0, max(nines, 2.05))
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: names.get(place, "")))
    axes.set_xlabel("of requests took no longer")
