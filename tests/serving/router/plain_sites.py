"""Sites with an Envoy and one app server each, and no Triton: what a test of the door itself needs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from router_parts import Part, RunningSite
from waiting import free_ports

from serving.fleet import Fleet
from serving.router import envoy
from serving.router.view import FleetView, LocalPorts

APP_SERVER = Path(__file__).parent / "app_server.py"


def site(fleet: Fleet, name: str, directory: Path, **view: Any) -> RunningSite:
    """A site whose files are written and whose parts are not started yet; `view`: fields of its view."""
    app, admin = free_ports(2)
    ports = LocalPorts(0, 0, {"review": app, "subtitles": app}, admin)
    found = RunningSite(replace(FleetView.of(fleet, name, ports), **view), directory)
    directory.mkdir(parents=True, exist_ok=True)
    found.parts = {
        "app": Part(
            [sys.executable, str(APP_SERVER), str(app), name, found.url],
            f"http://127.0.0.1:{app}/-/ready/review",
            directory / "app.log",
        ),
        "envoy": Part(
            envoy.command(directory / "envoy", workers=1),
            f"http://127.0.0.1:{admin}/ready",
            directory / "envoy.log",
        ),
    }
    write(found)
    return found


def write(found: RunningSite) -> None:
    envoy.write_config(found.view, found.directory / "envoy", access_log=found.directory / "access.log")


@contextmanager
def running(*sites: RunningSite) -> Iterator[None]:
    parts = [part for each in sites for part in each.parts.values()]
    try:
        for part in parts:
            part.start()
        for part in parts:
            part.wait()
        yield
    finally:
        for part in parts:
            part.end()
        for part in parts:
            part.wait_for_end()
