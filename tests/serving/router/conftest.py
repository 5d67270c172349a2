"""Two real sites for the front door: each a Triton with tiny models, an app server and an Envoy."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from router_parts import Part, RunningSite, settles
from waiting import free_ports

from serving.fleet import Fleet
from serving.router import envoy
from serving.router.view import FleetView, LocalPorts, Pace, Room
from serving.triton import server

HERE = Path(__file__).parent

FLEET = """
fleet: two
models: {{echo: {{}}, slow: {{}}, guarded: {{}}, paced: {{}}, far: {{}}}}
apps: {{subtitles: {{}}, review: {{}}}}
limits: {{body_mib: 24, timeout_s: 30, concurrency: 64}}
sites:
  here:
    front_door: "127.0.0.1:{here}"
    peer: "127.0.0.1:{here_peer}"
    models: [echo, slow, guarded, paced]
  there: {{front_door: "127.0.0.1:{there}", peer: "127.0.0.1:{there_peer}"}}
"""


ROOMS = {"model.guarded": Room(1, queue=1), "model.paced": Room(1, queue=8)}


def _triton(site: RunningSite, metrics: int) -> Part:
    repository = site.directory / "models"
    for model in site.view.local.models:
        source = {"slow": "slow", "guarded": "slow", "paced": "paced"}.get(model, "echo")
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
    view = FleetView.of(fleet, name, ports, rooms=ROOMS)
    # As an agent would say that has watched the model.
    view = replace(view, pace={"model.guarded": Pace(service_ms=500, per_request_ms=500)})
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
        for site in (sites.here, sites.there):
            settles(lambda site=site: all(map(site.finds, ("echo", "slow", "guarded", "paced"))))
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
