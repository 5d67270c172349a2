"""Chart of what the sites' Triton servers say: how long requests waited there and were computed."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from loadtests.report import style
from loadtests.report.style import Look, Place
from loadtests.report.view import Floats, View

MODELS = 8
"""Models with a panel of their own: those that were asked most."""


def models(view: View) -> list[str]:
    """Those that are drawn."""
    asked: defaultdict[str, float] = defaultdict(float)
    for one in view.result.server:
        asked[one.model] += one.per_second
    busiest = sorted(asked, key=lambda name: -asked[name])[:MODELS]
    return sorted(name for name in busiest if asked[name])


def waits_height(view: View, look: Look) -> float:
    """Inches."""
    many = max(1, len(models(view)))
    return 0.6 + 1.5 * (math.ceil(many / 2) if look.wide else many)


def waits(figure: Place, view: View, look: Look) -> None:
    """One panel for each model, one colour for each site: the wait as a line, the computing thin."""
    names = models(view)
    columns = min(2, len(names)) if look.wide and names else 1
    rows = max(1, math.ceil(len(names) / columns))
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    if not names:
        return style.nothing(grid[0, 0], "No figures of the servers were taken.")
    for number, axes in enumerate(grid.flat):
        if number < len(names):
            _model(axes, view, names[number], look, named=number < columns)
        else:
            axes.set_axis_off()
    _legend(figure, view, look)


def _model(axes: Axes, view: View, model: str, look: Look, *, named: bool) -> None:
    values: list[float] = []
    for site in view.sites:
        queue, compute = _means(view, model, site)
        colour, dash = style.site_line(view, site)
        axes.plot(view.coarse.middles, queue, color=colour, linestyle=dash, linewidth=1.6)
        axes.plot(view.coarse.middles, compute, color=colour, linestyle=dash, linewidth=0.8)
        values += [*queue, *compute]
    style.latency_axis(axes, values)
    style.time_axis(axes, view, look)
    axes.tick_params(labelbottom=True)
    style.mark_time(axes, view, named=named)
    axes.set_title(model)


def _means(view: View, model: str, site: str) -> tuple[Floats, Floats]:
    """Mean wait and mean execution of one model at one of `view.sites` by coarse stretch."""
    weights, queue, compute = np.zeros((3, view.coarse.number))
    for one in view.result.server:
        if one.model == model and view.shown(one.site) == site:
            place = view.coarse.place(one.at_s)
            weights[place] += one.per_second
            queue[place] += one.per_second * one.queue_ms
            compute[place] += one.per_second * one.compute_ms
    known = np.where(weights > 0, weights, np.nan)
    return queue / known, compute / known


def _legend(figure: Place, view: View, look: Look) -> None:
    handles = [
        *style.site_key(view),
        Line2D([], [], color=style.SOFT, linewidth=1.6, label="wait in the queue"),
        Line2D([], [], color=style.SOFT, linewidth=0.8, label="one execution"),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=style.key_columns(handles, look))
