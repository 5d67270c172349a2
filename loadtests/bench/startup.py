"""The two-site fleet: from `headend up` to the first answer, and what every part holds at rest."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
from rich.table import Table

from loadtests.bench import report
from loadtests.bench.fleet import running
from loadtests.bench.machine import Watch
from loadtests.bench.speech import Clip, transcribe

SITES = ("hub", "edge")
GIB = 1 << 30


def run(clip: Clip, out: Path) -> None:
    """Bring two sites up from built bundles and a warm file cache, ask each once, read memory, publish."""
    watch = Watch.start()
    begin = time.monotonic()
    with running(SITES) as status:
        ready = time.monotonic() - begin
        doors = [status["sites"][site]["front_door"] for site in SITES]
        with httpx.Client(timeout=600, trust_env=False) as client:
            transcribe(client, doors[0], clip)
            answered = time.monotonic() - begin
        conditions = watch.stop(status["sites"][site]["pid"] for site in SITES)
        parts = {
            f"{site} {name}": part["memory"]
            for site in SITES
            for name, part in status["sites"][site]["parts"].items()
        }
        total = status["memory"]
    table = Table(
        title=f"ready after {ready:.1f} s, first answer after {answered:.1f} s", title_justify="left"
    )
    table.add_column("part")
    table.add_column("memory MiB", justify="right")
    for name, size in [*parts.items(), ("whole fleet", total)]:
        table.add_row(name, f"{size / (1 << 20):.0f}")
    report.console.print(table)
    figures: dict[str, Any] = {
        "ready_s": ready,
        "first_answer_s": answered,
        "memory_bytes": {**parts, "fleet": total},
        "aims": {"first answer under 60 s": answered < 60, "fleet under 6 GiB": total < 6 * GIB},
    }
    report.publish("startup", out, conditions, figures)
