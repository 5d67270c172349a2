"""What the scenario leaves: `results.json`, a table, and a page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Self

import psutil
from jinja2 import Environment
from markupsafe import Markup
from rich.console import Console
from rich.table import Table

from loadtests.bench.machine import Watch
from loadtests.testbed.streams import TITLE
from models.files import write_atomic
from models.schema import Strict

RESULTS, PAGE = "results.json", "report.html"


class Row(Strict):
    """One kind of stream during one change."""

    change: str
    kind: str
    seconds: float
    """The change took."""
    streams: int
    """All that were opened, those before and after the change included."""
    across: int
    """Those that were open while it went on."""
    messages: int
    """Each answered and checked, but the last of a broken stream."""
    broken: int
    examples: dict[str, int]
    """Why they broke."""
    longest_s: float
    """Life of the longest stream."""
    slowest_ms: float
    """Longest wait for an answer."""
    pressure: float
    """Share of the time in which some task of the machine waited for a core."""


class Results(Strict):
    """Everything that was found."""

    title: str = TITLE
    hardware: str
    headend: str
    """headend's version."""
    rows: list[Row]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Self:
        """With what it ran on."""
        machine = Watch.start().stop()
        return cls(
            hardware=f"{os.cpu_count()} × {machine.cpu}, {psutil.virtual_memory().total / 2**30:.0f} GiB",
            headend=version("headend"),
            rows=list(rows),
        )


def write(results: Results, folder: Path) -> None:
    """Write `results.json` and `report.html`."""
    write_atomic(folder / RESULTS, results.model_dump_json(indent=1).encode())
    css = resources.files("loadtests.report").joinpath("page.css").read_text("utf-8")
    template = resources.files("loadtests.testbed.streams").joinpath("report.html").read_text("utf-8")
    page = Environment(autoescape=True).from_string(template)
    text = page.render(results=results, css=Markup(css))  # noqa: S704 - our own file
    write_atomic(folder / PAGE, text.encode())


def show(console: Console, results: Results) -> None:
    """Print the table."""
    table = Table(
        "change", "kind", "took", "open meanwhile", "all", "messages", "broken", "longest", "slowest answer",
        box=None, pad_edge=False,
    )  # fmt: skip
    for row in results.rows:
        table.add_row(
            row.change,
            row.kind,
            f"{row.seconds:.0f} s",
            f"{row.across:,}",
            f"{row.streams:,}",
            f"{row.messages:,}",
            f"{row.broken:,}",
            f"{row.longest_s:.0f} s",
            f"{row.slowest_ms:,.0f} ms",
        )
    console.print(table)
    for row in results.rows:
        for why, count in row.examples.items():
            console.print(f"{row.change}, {row.kind}: {count} × {why}", markup=False)
