"""Sites of a real Envoy and a real agent each, with a small HTTP server for an app."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from waiting import free_ports

from serving.fleet import Fleet
from serving.identity import SiteIdentity
from serving.router import envoy
from serving.router.agent.config import AgentConfig
from serving.router.telemetry.facts import PoolFacts
from serving.router.view import FleetView, LocalPorts

FLEET = """
fleet: three
models: {{}}
apps: {{review: {{}}}}
sites:
  here: {{front_door: "127.0.0.1:{0}", peer: "127.0.0.1:{1}"}}
  there: {{front_door: "127.0.0.1:{2}", peer: "127.0.0.1:{3}"}}
  hole: {{front_door: "127.0.0.1:{4}", peer: "127.0.0.1:{5}"}}
"""
"""Nothing runs at the third site: its peer listener takes connections, and never answers."""


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.do_GET()

    def log_message(self, *arguments: Any) -> None:
        pass


@dataclass
class RunningSite:
    view: FleetView
    directory: Path
    home: Path | None = None
    """HEADEND_HOME of the machine it stands for; by default the test's."""
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, part: str) -> None:
        argv = {
            "envoy": envoy.command(self.directory / "envoy", workers=1),
            "agent": [sys.executable, "-m", "serving.router.agent", str(self.config)],
        }
        with (self.directory / f"{part}.log").open("ab") as log:
            env = os.environ | ({"HEADEND_HOME": str(self.home)} if self.home else {})
            self.processes[part] = subprocess.Popen(argv[part], env=env, stdout=log, stderr=log)

    @property
    def config(self) -> Path:
        return self.directory / "agent" / "config.json"

    @property
    def agent(self) -> str:
        return f"http://127.0.0.1:{self.view.ports.agent}"

    @property
    def peer(self) -> str:
        return f"http://127.0.0.1:{self.view.local.peer.port}"

    @property
    def door(self) -> str:
        return f"http://127.0.0.1:{self.view.local.front_door.port}"

    def routes(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = httpx.get(f"{self.agent}/-/routes", timeout=5).json()
        except httpx.TransportError:
            return {}
        return found

    def hears(self, site: str) -> bool:
        seen = self.routes().get("sites", {}).get(site, {})
        return bool(seen.get("heard")) and not seen["stale"]

    def metric(self, line: str) -> float:
        text = httpx.get(f"{self.agent}/metrics", timeout=5).text
        return next(float(each.rpartition(" ")[2]) for each in text.splitlines() if each.startswith(line))

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.directory / "envoy" / "endpoints").iterdir()}


def made(fleet: Fleet, name: str, root: Path, app: int, home: Path | None = None) -> RunningSite:
    admin, agent = free_ports(2)
    view = FleetView.of(fleet, name, LocalPorts(0, 0, {"review": app}, admin, agent=agent))
    identity = SiteIdentity.of(fleet.fleet, name)
    if home:
        identity = SiteIdentity(home / "fleets" / fleet.fleet / name / "identity")
    if identity.exists:
        view = replace(view, identity=str(identity.path))
    site = RunningSite(view, root / name, home)
    envoy.write_config(view, site.directory / "envoy")
    config = AgentConfig(
        fleet=fleet,
        view=view,
        triton_metrics=0,
        facts={"app.review": PoolFacts(version="0", instances=8, room=40, capacity=50)},
        directory=site.directory,
    )
    site.config.parent.mkdir()
    site.config.write_text(config.model_dump_json())
    return site


@contextmanager
def running(
    root: Path,
    declaration: str = FLEET,
    names: tuple[str, ...] = ("here", "there"),
    homes: Mapping[str, Path] = {},
    hidden: Mapping[str, int] = {},
) -> Iterator[dict[str, RunningSite]]:
    """The sites `names`, with an identity where there is one for them; of the `declaration`'s six ports the
    last is a hole. `homes`: of sites on other machines. `hidden`: sites that the others cannot reach, each
    with the number of its peer listener's port.
    """
    # Connections to it are made, by the kernel, and nothing ever answers.
    hole = socket.create_server(("127.0.0.1", 0), backlog=1000)
    ports = free_ports(6) if hidden else [*free_ports(5), hole.getsockname()[1]]
    closed = dict(zip(hidden, free_ports(len(hidden)), strict=True))
    fleets = {}
    for name in names:
        seen = {hidden[other]: port for other, port in closed.items() if other != name}
        as_seen = [seen.get(number, port) for number, port in enumerate(ports)]
        fleets[name] = Fleet.parse(declaration.format(*as_seen), where="the test's fleet")
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), App) for _ in names]
    sites: dict[str, RunningSite] = {}
    try:
        for name, server in zip(names, servers, strict=True):
            threading.Thread(target=server.serve_forever, daemon=True).start()
            sites[name] = made(fleets[name], name, root, server.server_address[1], homes.get(name))
            for part in ("envoy", "agent"):
                sites[name].start(part)
        yield sites
    finally:
        processes = [process for site in sites.values() for process in site.processes.values()]
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
        for server in servers:
            server.shutdown()
            server.server_close()
        hole.close()
