"""All charts of a report, and how each becomes a picture."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from matplotlib.figure import Figure

from loadtests.report import latency, server, style, traffic, words
from loadtests.report.style import Look, Place
from loadtests.report.view import View
from loadtests.results import Result

PNG_DPI = 200
Kind = Literal["svg", "png"]


@dataclass(frozen=True)
class Chart:
    """One subject."""

    name: str
    """Of its picture's file."""
    title: str
    caption: str
    """What a reader has to know to read it."""
    height: Callable[[View, Look], float]
    draw: Callable[[Place, View, Look], None]
    timed: bool = True
    """Whether its axis is the run's time, on which events are marked."""


CHARTS = (
    Chart(
        "latency",
        "Response time over the run",
        "From the intended start of a request to its right answer, by class and by the site that answered. "
        "Thick: p99 (the slowest, where a stretch of time has fewer than 100 requests); thin: p50.",
        latency.over_time_height,
        latency.over_time,
    ),
    Chart(
        "throughput",
        "Throughput against offered load",
        "Requests count where they were meant to start, so an answer that came late still stands there.",
        traffic.throughput_height,
        traffic.throughput,
    ),
    Chart(
        "percentiles",
        "How response times are spread",
        "Each nine takes the same room. Where the dotted line (from when a request was really sent) leaves "
        "the full one, requests could not be sent when they should have been.",
        latency.curves_height,
        latency.curves,
        timed=False,
    ),
    Chart(
        "ways",
        "Where requests went",
        "Judged requests by the front door that was asked and the site that answered.",
        traffic.ways_height,
        traffic.ways,
        timed=False,
    ),
    Chart(
        "servers",
        "Inside the sites' Triton servers",
        "Means over a few seconds: how long a request waited for a model (thick), and how long one execution "
        "took, whatever its batch (thin).",
        server.waits_height,
        server.waits,
    ),
)


def svg(chart: Chart, view: View, look: Look) -> bytes:
    """The chart as an SVG document with its letters drawn, so that it needs no font."""
    return _draw(chart, view, look, "svg")


def png(chart: Chart, view: View) -> bytes:
    """The chart, with its title, as a picture to pass on."""
    return _draw(chart, view, style.WIDE, "png", titled=True)


def events_key(result: Result) -> str:
    """What the numbered lines of charts stand for: `1: cut hub at 0:10 · 2: …`."""
    return "  ·  ".join(
        f"{number}: {event.do} at {words.clock(event.at_s)}" for number, event in enumerate(result.events, 1)
    )


def _draw(chart: Chart, view: View, look: Look, kind: Kind, *, titled: bool = False) -> bytes:
    with style.look(look.points):
        height = chart.height(view, look)
        if titled:
            key = events_key(view.result) if chart.timed else ""
            height += style.head_height(key)
            figure = style.new_figure(look, height)
            chart.draw(style.titled(figure, chart.title, height, key), view, look)
        else:
            figure = style.new_figure(look, height)
            chart.draw(figure, view, look)
        style.stamp(figure, view.result)
        return save(figure, kind)


def save(figure: Figure, kind: Kind) -> bytes:
    """The picture's bytes; the same figures give the same bytes."""
    into = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(into, format=kind, dpi=PNG_DPI, metadata=metadata)
    return into.getvalue()
