"""Empties a site of work: other front doors stay away, its own leads away, and what is in flight ends."""

from __future__ import annotations

import time

from serving.fleet import Fleet
from serving.router import transition
from serving.site.rollout import front_door, seen
from serving.site.rollout.history import Revision
from serving.site.spec import SiteDirectory
from serving.site.status import running_sites
from serving.site.waiting import Progress

_LOOK_EVERY_S = 0.2
_NOTICED_S = 10.0
"""Other front doors ask a site about every two seconds whether it is ready."""


def drain(
    directory: SiteDirectory, revision: Revision, limit_s: float, tell: Progress, *, closed: bool = False
) -> str:
    """Lead away from the site and wait until its parts have nothing in flight; says how it went.

    Requests and streams that are there may end; after `limit_s` seconds they are left to whatever comes next.
    With `closed`, `/readyz` says no as well, for whatever stands before the front door.
    """
    site = directory.site
    asked = transition.read(directory.path)
    front_door.ask(
        directory, revision, asked.model_copy(update={"draining": True, "closed": closed or asked.closed})
    )
    if only := sorted(_only_here(revision.fleet, site)):
        tell(f"{site}: no other site answers {', '.join(only)}: while this one changes, nobody does")
    begun = time.monotonic()
    while not _noticed(revision.fleet, site) and time.monotonic() - begun < _NOTICED_S:
        time.sleep(_LOOK_EVERY_S)
    left = wait_for_end(directory, _ports(directory), limit_s)
    seconds = time.monotonic() - begun
    if left:
        return f"{left} requests or streams were still in flight after {seconds:.1f} s"
    return f"nothing in flight after {seconds:.1f} s"


def undrain(directory: SiteDirectory, revision: Revision) -> None:
    """Let the site answer again."""
    asked = transition.read(directory.path)
    front_door.ask(directory, revision, asked.model_copy(update={"draining": False, "closed": False}))


def wait_for_end(directory: SiteDirectory, ports: set[int], limit_s: float) -> int:
    """Wait until the site's front door has nothing in flight to `ports`; returns what was left at the end."""
    spec = directory.read_spec()
    if spec is None or not directory.supervised():
        return 0
    deadline = time.monotonic() + limit_s
    while (left := seen.in_flight(spec.ports["envoy-admin"], ports)) and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
    return left


def _ports(directory: SiteDirectory) -> set[int]:
    """Where the site's own parts answer requests."""
    spec = directory.read_spec()
    parts = spec.parts if spec else []
    return {port for part in parts if part.name in ("triton", "serve") for port in part.ports.values()}


def _only_here(fleet: Fleet, site: str) -> set[str]:
    others = [name for name in running_sites(fleet.fleet) if name != site and name in fleet.sites]
    elsewhere = {what for name in others for what in (*fleet.models_at(name), *fleet.apps_at(name))}
    return {*fleet.models_at(site), *fleet.apps_at(site)} - elsewhere


def _noticed(fleet: Fleet, site: str) -> bool:
    """Whether every other front door on this machine has found the site unready."""
    port = int(fleet.sites[site].peer_address.rpartition(":")[2])
    for name in running_sites(fleet.fleet):
        spec = SiteDirectory(fleet.fleet, name).read_spec()
        if name == site or spec is None or name not in fleet.sites:
            continue
        peers = [host for host in seen.hosts(spec.ports["envoy-admin"]) if host.port == port]
        probed = [host for host in peers if _is_probed(host.cluster)]
        if not all(host.probed_unhealthy for host in probed):
            return False
    return True


def _is_probed(cluster: str) -> bool:
    return cluster.endswith((".http", ".grpc"))
