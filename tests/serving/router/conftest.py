"""Two real sites for the front door: each a Triton with tiny models, an app server and an Envoy."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from waiting import free_ports

from serving.fleet import Fleet
from serving.router import envoy
from serving.router.view import FleetView, LocalPorts
from serving.triton import server

HERE = Path(__file__).parent

FLEET = """
fleet: two
models: {{echo: {{}}, slow: {{}}, guarded: {{}}, far: {{}}}}
apps: {{subtitles: {{}}, review: {{}}}}
limits: {{body_mib: 24, timeout_s: 30, concurrency: 64}}
sites:
  here: {{front_door: "127.0.0.1:{here}", peer: "127.0.0.1:{here_peer}", models: [echo, slow, guarded]}}
  there: {{front_door: "127.0.0.1:{there}", peer: "127.0.0.1:{there_peer}"}}
"""


def eventually(check: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


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
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.argv, env=self.env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait(self) -> None:
        eventually(lambda: answers(self.ready), f"{self.ready}, see {self.log}")

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

    def restart(self, part: str) -> None:
        self.parts[part].start()
        self.parts[part].wait()


def _triton(site: RunningSite, metrics: int) -> Part:
    repository = site.directory / "models"
    for model in site.view.local.models:
        source = {"slow": "slow", "guarded": "slow"}.get(model, "echo")
        shutil.copytree(HERE / "models" / source, repository / model)
        config = repository / model / "config.pbtxt"
        text = config.read_text().replace(f'name: "{source}"', f'name: "{model}"')
        if model == "guarded":
            text = "".join(line for line in text.splitlines(True) if "max_queue_size" not in line)
        config.write_text(text)
    ports = site.view.ports
    argv, env = server.command(
        repository,
        ports.triton_http,
        ports.triton_grpc,
        metrics,
        site.view.local.models,
        site.directory / "runtime",
    )
    ready = f"http://127.0.0.1:{ports.triton_http}/v2/health/ready"
    return Part(argv, ready, site.directory / "triton.log", env)


def _site(fleet: Fleet, name: str, directory: Path) -> RunningSite:
    http, grpc, app, admin, metrics = free_ports(5)
    ports = LocalPorts(http, grpc, {"subtitles": app, "review": app}, admin)
    view = FleetView.of(fleet, name, ports, room={"guarded": 2})
    site = RunningSite(view, directory)
    directory.mkdir()
    envoy.write_config(view, directory / "envoy", access_log=directory / "access.log")
    site.parts = {
        "triton": _triton(site, metrics),
        "app": Part(
            [sys.executable, str(HERE / "app_server.py"), str(app), name, site.url],
            f"http://127.0.0.1:{app}/-/ready/review",
            directory / "app.log",
        ),
        "envoy": Part(
            envoy.command(directory / "envoy", workers=1), f"{site.url}/readyz", directory / "envoy.log"
        ),
    }
    return site


@dataclass(frozen=True)
class Two:
    """Site `here` lacks the model `far`, which `there` has."""

    here: RunningSite
    there: RunningSite


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    root = tmp_path_factory.mktemp("router")
    names = ("here", "here_peer", "there", "there_peer")
    fleet = Fleet.parse(
        FLEET.format(**dict(zip(names, free_ports(4), strict=True))), where="the test's fleet"
    )
    sites = Two(*(_site(fleet, name, root / name) for name in ("here", "there")))
    parts = [part for site in (sites.here, sites.there) for part in site.parts.values()]
    try:
        for part in parts:
            part.start()
        for part in parts:
            part.wait()
        yield sites
    finally:
        for part in parts:
            part.end()
        for part in parts:
            part.wait_for_end()
        for site in (sites.here, sites.there):
            # A killed Triton leaves them behind.
            for region in Path("/dev/shm").glob(
                f"{server.shared_memory_prefix(site.directory / 'runtime')}*"
            ):
                region.unlink()
