"""Real agents beside real Envoys, over real sockets: three sites, of which one is a black hole."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from waiting import free_ports, until

from serving.fleet import DEFAULT_CLASS, Fleet
from serving.router import envoy
from serving.router.agent import kept
from serving.router.agent.config import AgentConfig
from serving.router.telemetry.facts import PoolFacts
from serving.router.telemetry.message import Message, encode
from serving.router.view import FleetView, LocalPorts, Pool

pytestmark = pytest.mark.e2e

FLEET = """
fleet: three
models: {{}}
apps: {{review: {{}}}}
sites:
  here: {{front_door: "127.0.0.1:{0}", peer: "127.0.0.1:{1}"}}
  there: {{front_door: "127.0.0.1:{2}", peer: "127.0.0.1:{3}"}}
  hole: {{front_door: "127.0.0.1:{4}", peer: "127.0.0.1:{5}"}}
"""
REVIEW = Pool("app", "review")


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
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, part: str) -> None:
        argv = {
            "envoy": envoy.command(self.directory / "envoy", workers=1),
            "agent": [sys.executable, "-m", "serving.router.agent", str(self.config)],
        }
        with (self.directory / f"{part}.log").open("ab") as log:
            self.processes[part] = subprocess.Popen(argv[part], stdout=log, stderr=log)

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


def made(fleet: Fleet, name: str, root: Path, app: int) -> RunningSite:
    admin, agent = free_ports(2)
    view = FleetView.of(fleet, name, LocalPorts(0, 0, {"review": app}, admin, agent=agent))
    site = RunningSite(view, root / name)
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


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RunningSite]]:
    root = tmp_path_factory.mktemp("agents")
    # Connections to it are made, by the kernel, and nothing ever answers.
    hole = socket.create_server(("127.0.0.1", 0), backlog=1000)
    ports = [*free_ports(5), hole.getsockname()[1]]
    fleet = Fleet.parse(FLEET.format(*ports), where="the test's fleet")
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), App) for _ in range(2)]
    running: dict[str, RunningSite] = {}
    try:
        for name, server in zip(("here", "there"), servers, strict=True):
            threading.Thread(target=server.serve_forever, daemon=True).start()
            running[name] = made(fleet, name, root, server.server_address[1])
            for part in ("envoy", "agent"):
                running[name].start(part)
        until(lambda: running["here"].hears("there") and running["there"].hears("here"), "summaries", 60)
        yield running
    finally:
        for site in running.values():
            for process in site.processes.values():
                process.kill()
        for site in running.values():
            for process in site.processes.values():
                process.wait()
        for server in servers:
            server.shutdown()
            server.server_close()
        hole.close()


def test_sites_hear_of_each_other_and_know_the_way(sites: dict[str, RunningSite]) -> None:
    here = sites["here"]
    assert 0 < until(lambda: here.routes()["sites"]["there"]["rtt_ms"], "the way is measured", 20) < 1000
    assert set(here.routes()["sites"]["there"]["pools"]) == {"app.review"}
    assert until(
        lambda: sites["here"].routes()["sites"]["there"]["pools"]["app.review"]["ready"], "ready", 20
    )


def test_a_peer_that_answers_nothing_delays_nobody(sites: dict[str, RunningSite]) -> None:
    here = sites["here"]
    until(lambda: here.metric('headend_questions_failed_total{site="hole"}') >= 2, "hole was asked twice", 40)
    ages = []
    for _ in range(20):
        found = here.routes()["sites"]
        ages.append((found["there"]["age_s"], found["here"]["age_s"]))
        threading.Event().wait(0.2)
    late = sum(max(pair) > 1.5 for pair in ages)
    assert late <= 2, f"summaries every half second: {ages}"
    assert not here.hears("hole")
    assert here.metric("headend_sites_stale") >= 0


def test_what_clients_ask_is_measured(sites: dict[str, RunningSite]) -> None:
    here = sites["here"]
    before = here.routes()["sites"]["here"]["pools"]["app.review"]["answered"]
    assert before < 1
    with httpx.Client(timeout=10) as client:

        def asked() -> bool:
            for _ in range(5):
                assert client.post(f"{here.door}/v1/moderations", content=b"{}").status_code == 200
            pool = here.routes()["sites"]["here"]["pools"]["app.review"]
            return bool(pool["answered"] > 2 and pool["offered"].get(DEFAULT_CLASS, 0) > 2)

        until(asked, "a rate of answers", 60)
    pool = here.routes()["sites"]["here"]["pools"]["app.review"]
    assert pool["request_bytes"] > 100
    told = until(
        lambda: sites["there"].routes()["sites"]["here"]["pools"]["app.review"]["answered"] > 0, "told", 20
    )
    assert told


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"no zlib at all", "format"),
        (zlib.compress(b"0" * (3 << 20)), "size"),
        (encode(Message(fleet="three", site="nobody")), "site"),
        (encode(Message(fleet="four", site="there")), "fleet"),
        (zlib.compress(json.dumps({"fleet": "three", "site": "there", "evil": 1}).encode()), "format"),
    ],
)
def test_hostile_messages_are_refused_at_the_peer_listener_and_counted(
    sites: dict[str, RunningSite], body: bytes, reason: str
) -> None:
    here = sites["here"]
    line = f'headend_summaries_refused_total{{reason="{reason}"}}'
    before = here.metric(line)
    answer = httpx.post(f"{here.peer}/-/agent/telemetry", content=body, timeout=10)
    assert (answer.status_code, answer.json()["reason"]) == (400, reason)
    assert here.metric(line) == before + 1
    assert here.hears("there")


def test_nothing_else_of_the_agent_is_open_to_others(sites: dict[str, RunningSite]) -> None:
    here = sites["here"]
    for path in ("/metrics", "/-/routes", "/-/alive", "/-/agent/../metrics", "/-/agent%2f..%2fmetrics"):
        assert httpx.get(here.peer + path).status_code in (400, 404), path
    message = encode(Message(fleet="three", site="there"))
    assert httpx.post(f"{here.door}/-/agent/telemetry", content=message).status_code == 404


def test_an_agent_that_is_killed_under_load_changes_nothing_and_comes_back(
    sites: dict[str, RunningSite],
) -> None:
    here = sites["here"]
    files, stop, statuses = here.files(), threading.Event(), []

    def ask() -> None:
        with httpx.Client(timeout=10) as client:
            while not stop.is_set():
                statuses.append(client.post(f"{here.door}/v1/moderations", content=b"{}").status_code)

    with ThreadPoolExecutor(2) as clients:
        asking = [clients.submit(ask) for _ in range(2)]
        try:
            until(lambda: len(statuses) > 50, "requests before")
            here.processes["agent"].kill()
            here.processes["agent"].wait()
            killed_at = len(statuses)
            until(lambda: not sites["there"].hears("here"), "the others notice", 30)
            until(lambda: len(statuses) > killed_at + 100, "requests without an agent")
            assert here.files().keys() == files.keys()
            here.start("agent")
            until(lambda: here.hears("there") and sites["there"].hears("here"), "it is back", 60)
        finally:
            stop.set()
        for each in asking:
            each.result(timeout=20)
    assert set(statuses) == {200}


def test_a_stopped_agent_that_goes_on_is_taken_in_again(sites: dict[str, RunningSite]) -> None:
    there = sites["there"].processes["agent"]
    os.kill(there.pid, signal.SIGSTOP)
    try:
        until(lambda: not sites["here"].hears("there"), "it is stale", 30)
        assert sites["here"].routes()["sites"]["there"]["heard"], "what it said last stays known"
    finally:
        os.kill(there.pid, signal.SIGCONT)
    until(lambda: sites["here"].hears("there"), "it is heard again", 30)


def test_a_restarted_agent_begins_with_the_plan_that_was_written(sites: dict[str, RunningSite]) -> None:
    here = sites["here"]
    row = {"here": 0.25, "there": 0.75}
    agent = here.processes["agent"]
    agent.terminate()
    assert agent.wait(timeout=10) == 0, "SIGTERM ends it cleanly"
    kept.write(here.directory, {(REVIEW, "live"): row})
    here.start("agent")
    until(lambda: here.routes().get("shares", {}).get("app.review", {}).get("live"), "shares", 60)
    assert kept.read(here.directory)[REVIEW, "live"].keys() <= {"here", "there", "hole"}


def test_an_agent_is_small(sites: dict[str, RunningSite]) -> None:
    agent = psutil.Process(sites["here"].processes["agent"].pid)
    assert agent.memory_full_info().uss < 150 << 20
