"""Processes of real sites, started and ended by their handles."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from waiting import until

from serving.router.view import FleetView

SITES = ("here", "there")


def settles(check: Callable[[], bool], seconds: float = 60) -> None:
    """Waits until `check` holds; that nobody answers yet does not end the wait."""

    def holds() -> bool:
        with suppress(httpx.HTTPError):
            return check()
        return False

    until(holds, "settled", seconds)


def inputs(module: Any, shape: tuple[int, ...]) -> list[Any]:
    given = module.InferInput("x", shape, "FP32")
    given.set_data_from_numpy(np.zeros(shape, np.float32))
    return [given]


def answers(url: str, status: int = 200) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == status
    except httpx.TransportError:
        return False


@dataclass
class Part:
    """One process, started and ended by its handle."""

    argv: list[str]
    ready: str
    log: Path
    env: Mapping[str, str] | None = None
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._sweep()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv, env=self.env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait(self) -> None:
        until(lambda: answers(self.ready), f"{self.ready}, see {self.log}")

    def kill(self) -> None:
        """As a crash does."""
        assert self.process
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        if self.process:
            self.process.terminate()

    def wait_for_end(self) -> None:
        if self.process:
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()
        self._sweep()

    def _sweep(self) -> None:
        """End what a killed Triton left behind: each part leads a session of its own."""
        if self.process:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


@dataclass
class RunningSite:
    view: FleetView
    directory: Path
    parts: dict[str, Part] = field(default_factory=dict)

    @property
    def door(self) -> str:
        """`host:port`, as `tritonclient` wants it."""
        return f"{self.view.local.front_door.ip}:{self.view.local.front_door.port}"

    @property
    def url(self) -> str:
        return f"http://{self.door}"

    @property
    def peer_url(self) -> str:
        return f"http://{self.view.local.peer.ip}:{self.view.local.peer.port}"

    def stats(self, pattern: str) -> dict[str, int]:
        text = httpx.get(
            f"http://127.0.0.1:{self.view.ports.admin}/stats", params={"filter": pattern}, timeout=5
        ).text
        return {name: int(value) for name, _, value in (line.partition(": ") for line in text.splitlines())}

    def finds(self, model: str) -> bool:
        """Whether `model` has passed a probe at both sites: the first ones may have come too early."""
        healthy = self.stats(rf"^cluster\.model\.{model}\.(http|grpc)\.membership_healthy$")
        return list(healthy.values()) == [len(SITES)] * 2

    def statistics(self, model: str) -> dict[str, Any]:
        """What Triton has done here for `model`."""
        answer = httpx.get(f"{self.url}/v2/models/{model}/stats", headers={"x-headend-hop": "1"})
        found: dict[str, Any] = answer.json()["model_stats"][0]
        return found

    def logged(self, wanted: Callable[[dict[str, Any]], bool], number: int = 1) -> list[dict[str, Any]]:
        """At least `number` entries of the access log, which Envoy writes now and then."""

        def entries() -> list[dict[str, Any]]:
            lines = (self.directory / "access.log").read_text().splitlines(keepends=True)
            found = [entry for line in lines if line.endswith("\n") and wanted(entry := json.loads(line))]
            return found if len(found) >= number else []

        log: list[dict[str, Any]] = until(entries, f"{number} such entries in the access log", 60)
        return log

    def restart(self, part: str) -> None:
        self.parts[part].start()
        self.parts[part].wait()
