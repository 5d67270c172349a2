"""Charts of requests: offered and answered over the run, and from which door to which site."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from loadtests.report import style, words
from loadtests.report.style import Look, Place
from loadtests.report.view import COLOURED, View

NOBODY = "no answer"
_GAP = 0.04
"""Between two nodes of the flow, of its height."""
_LEFT, _RIGHT = 1.2, 1.5
"""Inches beside the bands for names."""
_MATRIX_NUMBERS = 14
"""A matrix with more sites than this shows its shares as shades only."""
_MATRIX_NAMES = {True: 30, False: 14}
"""Of more sites than this, in a wide and in a narrow matrix, only every so many is named."""


def throughput_height(view: View, look: Look) -> float:
    """Inches."""
    return 4.1 if look.wide else 4.0


def throughput(figure: Place, view: View, look: Look) -> None:
    """What was answered, rightly or not, against what was offered; and below it by whom."""
    panels = [_offered, _by_site] if view.sites else [_offered]
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    if not view.result.slices:
        return style.nothing(grid[0], "Nothing was sent.")
    for number, (axes, panel) in enumerate(zip(grid, panels, strict=True)):
        panel(axes, view)
        style.time_axis(axes, view, look)
        style.count_axis(axes)
        style.mark_time(axes, view, named=number == 0)
        axes.legend(loc="upper left", ncols=4 if look.wide else 2)
        axes.set_ylim(top=axes.get_ylim()[1] * (1.25 if look.wide else 1.7))


def _offered(axes: Axes, view: View) -> None:
    right = view.rate(lambda one: one.right)
    offered = view.rate(lambda one: one.sent)
    axes.stairs(right, view.fine.edges, fill=True, color="#bcd9ec", label="answered rightly")
    axes.stairs(
        offered, view.fine.edges, baseline=right, fill=True, facecolor=style.BAD, edgecolor=style.PAPER,
        hatch="////", linewidth=0, label="not answered rightly",
    )  # fmt: skip
    axes.stairs(offered, view.fine.edges, color=style.INK, linewidth=1.3, baseline=None, label="offered")
    if view.planned is not None:
        axes.plot(
            view.fine.middles,
            view.planned,
            color=style.SOFT,
            linewidth=1,
            linestyle=(0, (1, 1.5)),
            label="planned",
        )
    axes.set_title("Requests a second")


def _by_site(axes: Axes, view: View) -> None:
    below = np.zeros(view.fine.number)
    for site in view.sites:
        above = below + view.rate(lambda one, site=site: one.right * (view.shown(one.site) == site))  # type: ignore[misc]
        axes.stairs(
            above, view.fine.edges, baseline=below, fill=True, facecolor=style.site_line(view, site)[0],
            edgecolor=style.PAPER, linewidth=0.4, alpha=0.85, label=style.site_name(site),
        )  # fmt: skip
        below = above
    axes.set_title("Right answers a second, by site")


def flows(view: View) -> dict[str, Counter[str]]:
    """Requests by front door and by the site that answered; `NOBODY` where none did."""
    found: dict[str, Counter[str]] = {}
    for one in view.result.series:
        ways = found.setdefault(one.door, Counter())
        if one.site:
            ways[one.site] += one.sent
        else:
            ways[""] += one.right
            ways[NOBODY] += one.sent - one.right
    return {door: +ways for door, ways in sorted(found.items())}


def ways_height(view: View, look: Look) -> float:
    """Inches."""
    doors = len({one.door for one in view.result.series})
    if max(doors, len(view.answering)) > COLOURED:
        return min(7.5, 1.4 + 0.27 * max(4, doors)) if look.wide else min(6, 1.3 + 0.2 * max(4, doors))
    return 0.7 + 0.55 * max(3, doors, len(view.answering) + 1)


def ways(figure: Place, view: View, look: Look) -> None:
    """Where each door's requests went: bands for a few sites, a matrix for many."""
    axes = figure.subplots()
    found = flows(view)
    total = sum(ways.total() for ways in found.values())
    if not total:
        return style.nothing(axes, "No request was judged.")
    if max(len(found), len(view.answering)) > COLOURED:
        _matrix(axes, found, look)
    else:
        _bands(axes, view, found, total, look)


def _bands(axes: Axes, view: View, found: Mapping[str, Counter[str]], total: int, look: Look) -> None:
    """An alluvial diagram; heights are shares of all requests."""
    axes.set_axis_off()
    between = look.width - _LEFT - _RIGHT
    axes.set(xlim=(-_LEFT / between, 1 + _RIGHT / between), ylim=(1.02, -0.12))
    into: Counter[str] = sum(found.values(), Counter())
    ends = [*(site for site in view.sites if into[site]), *([NOBODY] if into[NOBODY] else [])]
    left = _nodes({door: ways.total() for door, ways in found.items()}, total)
    right = _nodes({end: into[end] for end in ends}, total)
    for name, (top, height) in left.items():
        axes.add_patch(Rectangle((-0.02, top), 0.02, height, color=style.SOFT))
        axes.text(-0.04, top + height / 2, f"{name}\n{found[name].total():,}", ha="right", va="center")
    for name, (top, height) in right.items():
        bad = name == NOBODY
        colour = style.BAD if bad else style.site_line(view, name)[0]
        axes.add_patch(Rectangle((1, top), 0.02, height, color=colour))
        text = (
            f"{NOBODY if bad else style.site_name(name)}\n{into[name]:,} ({words.share(into[name] / total)})"
        )
        axes.text(1.04, top + height / 2, text, ha="left", va="center", color=style.BAD if bad else style.INK)
    from_y = {name: top for name, (top, _) in left.items()}
    to_y = {name: top for name, (top, _) in right.items()}
    for door, ways in found.items():
        for end in ends:
            height = ways[end] / total * (1 - _GAP * 5)
            if height:
                colour = style.BAD if end == NOBODY else style.site_line(view, end)[0]
                _band(axes, from_y[door], to_y[end], height, colour, hatched=end == NOBODY)
                from_y[door] += height
                to_y[end] += height
    axes.text(-0.02, -0.06, "asked at the front door", ha="right", va="bottom", color=style.SOFT)
    axes.text(1.02, -0.06, "answered by", ha="left", va="bottom", color=style.SOFT)


def _nodes(sizes: Mapping[str, int], total: int) -> dict[str, tuple[float, float]]:
    """Top and height of each node; together they fill the axis but for the gaps, and stand in its middle."""
    heights = {name: size / total * (1 - _GAP * 5) for name, size in sizes.items()}
    room = 1 - sum(heights.values())
    gap = room / max(1, len(heights) + 1)
    found: dict[str, tuple[float, float]] = {}
    top = gap
    for name, height in heights.items():
        found[name] = (top, height)
        top += height + gap
    return found


def _band(axes: Axes, left: float, right: float, height: float, colour: str, *, hatched: bool) -> None:
    begin, middle, end = 0.0, 0.5, 1.0
    points = [
        (begin, left), (middle, left), (middle, right), (end, right),
        (end, right + height), (middle, right + height), (middle, left + height), (begin, left + height),
        (begin, left),
    ]  # fmt: skip
    curve = [Path.CURVE4] * 3
    codes = [Path.MOVETO, *curve, Path.LINETO, *curve, Path.CLOSEPOLY]
    axes.add_patch(
        PathPatch(
            Path(points, codes), facecolor=colour, alpha=0.45, linewidth=0, edgecolor=style.PAPER,
            hatch="////" if hatched else None,
        )
    )  # fmt: skip


def _matrix(axes: Axes, found: Mapping[str, Counter[str]], look: Look) -> None:
    """Doors down, answering sites across, shares of each door's requests as shades."""
    doors = list(found)
    answered: Counter[str] = sum(found.values(), Counter())
    ends = [*sorted(name for name in answered if name != NOBODY), *([NOBODY] if answered[NOBODY] else [])]
    shares = np.array([[found[door][end] / max(1, found[door].total()) for end in ends] for door in doors])
    # Small shares are what one looks for here: the root makes them visible, and none stays white.
    shades = np.where(shares > 0, shares, np.nan)
    axes.imshow(shades, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1), aspect="auto")
    axes.grid(False)
    room = _MATRIX_NAMES[look.wide]
    across, down = (range(0, len(names), math.ceil(len(names) / room)) for names in (ends, doors))
    axes.set_xticks(across, [style.site_name(ends[place]) for place in across], rotation=90)
    axes.set_yticks(down, [doors[place] for place in down])
    axes.spines[:].set_visible(False)
    axes.set_xlabel("answered by")
    axes.set_ylabel("asked at")
    if max(len(doors), len(ends)) <= _MATRIX_NUMBERS and look.wide:
        for (row, column), value in np.ndenumerate(shares):
            if value:
                colour = style.PAPER if value > 0.35 else style.INK
                axes.text(
                    column,
                    row,
                    f"{value:.0%}" if value >= 0.005 else "<1%",
                    ha="center",
                    va="center",
                    fontsize="small",
                    color=colour,
                )
