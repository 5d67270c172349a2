"""How charts look: calm, light, and readable without colour.

Colours are Okabe and Ito's ("Color Universal Design", 2008), whose neighbours differ in lightness as well;
lines differ in their dashes too. Vermilion means failure and nothing else.
"""

from __future__ import annotations

import logging
import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import blended_transform_factory

from loadtests.report import words
from loadtests.report.view import OTHERS, View
from loadtests.results import Result
from serving.fleet import Class

INK, SOFT, FAINT, GRID, PAPER = "#1f2933", "#5d6975", "#9aa5b1", "#e6eaee", "#ffffff"
BAD, GOOD, WARN = "#c4440c", "#0b7a4b", "#8a5a00"
Dash = Any
Place = Figure | SubFigure
"""Where a chart is drawn: a picture of its own, or a part of one."""
_SITES: tuple[tuple[str, Dash], ...] = (
    ("#0072b2", "-"),
    ("#e69f00", (0, (5, 1.5))),
    ("#009e73", (0, (1.2, 1.2))),
    ("#cc79a7", (0, (6, 1.5, 1.2, 1.5))),
    ("#56b4e9", (0, (3, 1, 1, 1, 1, 1))),
    ("#4d4d4d", (0, (8, 2))),
)
_CLASSES: dict[Class, str] = {"live": "#882255", "interactive": "#1b9e8a", "batch": "#b8a13a"}
_FALLBACK_FONTS = ("Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "PingFang SC", "SimHei")
"""For campaign titles in Chinese; matplotlib's own font has no such signs."""
_NOTE_LINES = 4
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


@dataclass(frozen=True)
class Look:
    """The size that a chart is drawn in."""

    width: float
    """Inches."""
    points: float
    """Size of its letters."""
    wide: bool = True


MARGIN = 0.1
"""Inches left of titles."""
WIDE = Look(7.4, 8.5)
NARROW = Look(3.9, 8, wide=False)
"""For telephones: a wide chart scaled down could not be read there."""


@contextmanager
def look(points: float) -> Iterator[None]:
    """Within it, what is drawn follows the house style."""
    known = set(font_manager.get_font_names())
    # A font without a bold face, or without a sign of the title, is no news to who reads the report.
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            mpl.rc_context(
                {
                    "font.family": ["DejaVu Sans", *(name for name in _FALLBACK_FONTS if name in known)],
                    "font.size": points,
                    "axes.titlesize": points + 1,
                    "axes.titleweight": "bold",
                    "axes.titlelocation": "left",
                    "axes.titlepad": 7,
                    "axes.titlecolor": INK,
                    "axes.labelsize": points,
                    "axes.labelcolor": SOFT,
                    "axes.edgecolor": FAINT,
                    "axes.linewidth": 0.7,
                    "axes.spines.top": False,
                    "axes.spines.right": False,
                    "axes.grid": True,
                    "axes.axisbelow": True,
                    "grid.color": GRID,
                    "grid.linewidth": 0.8,
                    "text.color": INK,
                    "xtick.color": FAINT,
                    "ytick.color": FAINT,
                    "xtick.labelcolor": SOFT,
                    "ytick.labelcolor": SOFT,
                    "xtick.labelsize": points - 0.5,
                    "ytick.labelsize": points - 0.5,
                    "xtick.major.size": 3,
                    "ytick.major.size": 0,
                    "xtick.minor.size": 0,
                    "ytick.minor.size": 0,
                    "legend.facecolor": PAPER,
                    "legend.edgecolor": "none",
                    "legend.framealpha": 0.85,
                    "legend.fontsize": points - 0.5,
                    "legend.labelcolor": INK,
                    "hatch.linewidth": 0.7,
                    "figure.facecolor": PAPER,
                    "savefig.facecolor": PAPER,
                    "svg.fonttype": "path",
                    "svg.hashsalt": "headend",
                }
            ),
        ):
            warnings.filterwarnings("ignore", message="Glyph")
            yield
    finally:
        log.setLevel(level)


def site_line(view: View, site: str) -> tuple[str, Dash]:
    """Colour and dashes of one of `view.sites`."""
    return (FAINT, "-") if site == OTHERS else _SITES[view.sites.index(site)]


def site_name(site: str) -> str:
    """A site's name in a legend."""
    return site or "site not known"


def site_key(view: View) -> list[Line2D]:
    """Legend entries of `view.sites`."""
    return [
        Line2D([], [], color=colour, linestyle=dash, linewidth=1.8, label=site_name(site))
        for site in view.sites
        for colour, dash in [site_line(view, site)]
    ]


def key_columns(handles: Sequence[Line2D], look: Look) -> int:
    """Columns of a legend that fits across a chart."""
    return min(len(handles), 8) if look.wide else min(len(handles), 3)


def class_colour(class_: Class) -> str:
    """Colour of a class where classes share a chart."""
    return _CLASSES[class_]


def time_axis(axes: Axes, view: View, look: Look) -> None:
    """The run's time from left to right, in steps that a clock has."""
    axes.set_xlim(0, max(view.end_s, 1))
    wanted = view.end_s / (look.width * 1.1)
    step = next((each for each in _STEPS_S if each >= wanted), words.DAY_S * math.ceil(wanted / words.DAY_S))
    axes.xaxis.set_major_locator(FixedLocator(list(np.arange(0, view.end_s + step / 1e3, step))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: _moment(at, step)))
    axes.grid(False, axis="x")


def _moment(at: float, step: float) -> str:
    if step >= words.DAY_S:
        return f"day {at / words.DAY_S:.0f}"
    if at >= words.DAY_S:
        return f"{at / words.DAY_S:.0f} d {words.clock(at % words.DAY_S).removesuffix(':00')}"
    return words.clock(at).removesuffix(":00") + " h" if step >= 3600 and at else words.clock(at)


def latency_axis(axes: Axes, values: Sequence[float]) -> None:
    """Milliseconds from bottom to top; logarithmic where they differ by more than a factor of 30."""
    real = [value for value in values if value > 0 and math.isfinite(value)]
    low, high = (min(real), max(real)) if real else (1.0, 10.0)
    if high > 30 * low:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.4, high * 1.6)
        axes.yaxis.set_major_locator(LogLocator(10, subs=(1.0,) if high > 300 * low else (1.0, 3.0)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(0, high * 1.15)
        axes.yaxis.set_major_locator(MaxNLocator(5, min_n_ticks=3, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words.brief_ms(value)))


def count_axis(axes: Axes) -> None:
    """Requests a second from bottom to top."""
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(4, min_n_ticks=3, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def mark_time(axes: Axes, view: View, *, named: bool = True) -> None:
    """Warm-up in grey, and the campaign's events as numbered lines."""
    warm_up = min(view.result.campaign.warm_up_s, view.end_s)
    if warm_up:
        axes.axvspan(0, warm_up, facecolor="#f1f3f5", edgecolor="#dfe3e8", hatch="///", linewidth=0, zorder=0)
    above = blended_transform_factory(axes.transData, axes.transAxes)
    for number, event in enumerate(view.result.events, 1):
        if event.at_s > view.end_s:
            continue  # A site that was put up again when the run had ended.
        axes.axvline(event.at_s, color=INK, linewidth=0.8, linestyle=(0, (2, 2)), zorder=1.5)
        if named:
            axes.text(
                event.at_s, 1.0, str(number), transform=above, ha="center", va="center", color=PAPER,
                fontsize=mpl.rcParams["font.size"] - 2, fontweight="bold", zorder=6, clip_on=False,
                bbox={"boxstyle": "circle,pad=0.22", "facecolor": INK, "edgecolor": PAPER, "linewidth": 1},
            )  # fmt: skip


def nothing(axes: Axes, text: str) -> None:
    """Say why a chart is empty."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", color=SOFT, transform=axes.transAxes)


def stamp(figure: Figure, result: Result) -> None:
    """Mark a picture of a run that must not be taken for a good one; pictures travel without their page."""
    text = stamp_text(result)
    if text:
        figure.text(
            0.5, 0.5, text, ha="center", va="center", rotation=18, color=BAD, alpha=0.16,
            fontsize=6 * figure.get_figwidth(), fontweight="bold", zorder=10,
        )  # fmt: skip


def stamp_text(result: Result) -> str:
    """`INVALID`, `PARTIAL`, or nothing."""
    if result.verdict == "invalid":
        return "INVALID"
    return "" if result.complete else "PARTIAL"


def new_figure(look: Look, height: float) -> Figure:
    """An empty picture; nothing of matplotlib's global state is touched."""
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06, hspace=0, wspace=0)
    return Figure(figsize=(look.width, height), layout=layout)


def head_height(note: str) -> float:
    """Inches that `titled` takes away."""
    return 0.26 + 0.16 * len(_wrapped(note))


def titled(place: Place, title: str, height: float, note: str = "") -> Place:
    """Write a title and a note at the top of `place`, which is `height` inches high; gives what is left."""
    head = head_height(note)
    parts = place.subfigures(2, 1, squeeze=False, height_ratios=[head, height - head])
    top: SubFigure = parts[0, 0]
    rest: SubFigure = parts[1, 0]
    size = mpl.rcParams["font.size"]
    left = MARGIN * top.dpi / top.bbox.width
    top.text(left, 1 - 0.15 / head, title, va="center", fontsize=size + 3, fontweight="bold")
    top.text(left, 0.02, "\n".join(_wrapped(note)), va="bottom", color=SOFT)
    return rest


def _wrapped(note: str) -> list[str]:
    return textwrap.wrap(note, 110)[:_NOTE_LINES]
