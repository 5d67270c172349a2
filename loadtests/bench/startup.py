"""The two-site fleet: from `headend up` to the first answer, what every part holds at rest, and how long
what was killed takes to be back."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
from rich.table import Table

from loadtests.bench import report
from loadtests.bench.fleet import fleet_of, running
from loadtests.bench.machine import Watch
from loadtests.bench.speech import Clip, transcribe
from models.errors import HeadendError
from serving.site import lifecycle, waiting
from serving.site.machine import State
from serving.site.spec import SiteDirectory

SITES = ("hub", "edge")
GIB = 1 << 30
GIVEN_UP_S = 240.0


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
        back = _restarts(status)
    table = Table(
        title=f"ready after {ready:.1f} s, first answer after {answered:.1f} s", title_justify="left"
    )
    table.add_column("part")
    table.add_column("memory MiB", justify="right")
    for name, size in [*parts.items(), ("whole fleet", total)]:
        table.add_row(name, f"{size / (1 << 20):.0f}")
    report.console.print(table)
    back_after = ", ".join(f"{part} {seconds:.1f} s" for part, seconds in back.items())
    report.console.print(f"from kill -9 to ready again: {back_after}")
    figures: dict[str, Any] = {
        "ready_s": ready,
        "first_answer_s": answered,
        "memory_bytes": {**parts, "fleet": total},
        "back_s": back,
        "aims": {"first answer under 60 s": answered < 60, "fleet under 6 GiB": total < 6 * GIB},
    }
    report.publish("startup", out, conditions, figures)


def _restarts(status: dict[str, Any]) -> dict[str, float]:
    """Seconds from SIGKILL until each part of the first site is ready again; `site`: all of it, from `up`."""
    site = SITES[0]
    directory = SiteDirectory(status["fleet"], site)
    found: dict[str, float] = {}
    for name, part in status["sites"][site]["parts"].items():
        begin = time.monotonic()
        os.kill(part["pid"], signal.SIGKILL)
        while not _is_back(directory, name):
            if time.monotonic() > begin + GIVEN_UP_S:
                raise HeadendError(f"{name} did not come back within {GIVEN_UP_S:.0f} s")
            time.sleep(0.05)
        found[name] = time.monotonic() - begin
    lifecycle.ask_to_end([directory])
    lifecycle.wait_ended([directory], report.console.print)
    begin = time.monotonic()
    lifecycle.up(fleet_of(status, SITES), [site], report.console.print, [])
    waiting.wait_ready([directory], report.console.print)
    return found | {"site": time.monotonic() - begin}


def _is_back(directory: SiteDirectory, part: str) -> bool:
    state = directory.read_state()
    now = next((each for each in state.parts if each.name == part), None) if state else None
    return now is not None and now.restarts > 0 and now.state is State.READY
