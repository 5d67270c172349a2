"""Fleets for end-to-end tests: declared like the demo's, on free ports, run by the real command.

Their state lies where tests build models (see `built`).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from built import TEST_HOME
from waiting import free_ports, until

from serving.fleet import demo_fleet
from serving.site import keeper

HEADEND = Path(sys.executable).with_name("headend")


def headend(*arguments: object, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run the command; `code` is the exit status it must end with, None for any."""
    done = subprocess.run(
        [HEADEND, *map(str, arguments)],
        env={**os.environ, "HEADEND_HOME": str(TEST_HOME), "COLUMNS": "150"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert code is None or done.returncode == code, f"headend {arguments}: {done.stderr}{done.stdout}"
    return done


def processes_of(fleet: str) -> list[int]:
    """Every living process that a fleet's parts and supervisors consist of, keepers included."""
    mark = f"{TEST_HOME}/fleets/{fleet}/".encode()
    supervisor = f"serving.site.supervisor\0{fleet}\0".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "environ").read_bytes() + b"\0" + (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if mark in text or supervisor in text:
            found.append(int(entry.name))
    return found


@dataclass
class RunningFleet:
    """A fleet of its own name and ports; `headend up` in the foreground keeps it."""

    name: str
    declaration: dict[str, Any]
    folder: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def file(self) -> Path:
        return self.folder / f"{self.name}.yaml"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def write(self) -> None:
        self.file.write_text(yaml.safe_dump(self.declaration))

    def up(self) -> None:
        """Start it; it ends with this process, however this process ends."""
        self.write()
        me = os.getpid()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [HEADEND, "up", "-f", self.file],
                env={**os.environ, "HEADEND_HOME": str(TEST_HOME)},
                stdout=log,
                stderr=log,
                preexec_fn=lambda: keeper.die_with_parent(me, signal.SIGTERM),
            )

    def wait(self, seconds: float = 300) -> None:
        """Wait until all is ready."""

        def ready() -> bool:
            assert self.process is None or self.process.poll() is None, self.log.read_text()
            return "All is ready" in self.log.read_text()

        until(ready, f"fleet {self.name} ready, see {self.log}", seconds)

    def end(self) -> None:
        if self.process is not None:
            self.process.terminate()
            assert self.process.wait(120) == 130, self.log.read_text()
        else:
            headend("down", "-f", self.file)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(headend("status", "-f", self.file, "--json", code=None).stdout)
        return found

    def part(self, site: str, part: str) -> dict[str, Any]:
        found: dict[str, Any] = self.status()["sites"][site]["parts"][part]
        return found

    def wait_ready(self, seconds: float = 240) -> None:
        until(lambda: self.status()["ready"], f"fleet {self.name} ready again", seconds)

    def door(self, site: str) -> str:
        """`host:port` of a site's front door, as tritonclient wants it."""
        address: str = self.declaration["sites"][site]["front_door"]
        return address

    def url(self, site: str) -> str:
        return f"http://{self.door(site)}"


def declare(
    name: str, folder: Path, sites: tuple[str, ...] = ("hub", "edge"), **changes: Any
) -> RunningFleet:
    """The demo fleet under another name, on free ports."""
    demo = demo_fleet().model_dump(mode="json", exclude_none=True, exclude={"sites", "fleet"})
    ports = iter(free_ports(2 * len(sites)))
    doors = {
        site: {"front_door": f"127.0.0.1:{next(ports)}", "peer": f"127.0.0.1:{next(ports)}"} for site in sites
    }
    full_name = f"{name}-{os.getpid()}"
    return RunningFleet(full_name, {**demo, "fleet": full_name, "sites": doors, **changes}, folder)
