"""Empties a site of work: other front doors stay away, its own leads away, and what is in flight ends."""

from __future__ import annotations

import time
from uuid import uuid4

from models.errors import HeadendError
from serving.fleet import Fleet
from serving.router import transition
from serving.router.transition import Transition
from serving.site import door, lifecycle
from serving.site.rollout import front_door, seen
from serving.site.rollout.history import Revision
from serving.site.spec import SiteDirectory
from serving.site.status import running_sites
from serving.site.waiting import Progress

_LOOK_EVERY_S = 0.2
_READ_S = 1.5
"""A front door reads once a second where requests are led (`lua/admission.lua`)."""
_TOLD_S = 5.0
"""Front doors that ask a site anything ask once a second whether it is ready, and believe the second no."""
_NOTICED_S = 10.0
"""Until then those of this machine are waited for."""
_LEFT_S = 3.0
"""A closed front door that was asked for nothing for so long has no clients any more."""


def drain(
    directory: SiteDirectory, revision: Revision, limit_s: float, tell: Progress, *, by_operator: bool = False
) -> str:
    """Lead away from the site and wait until its parts have nothing in flight; says how it went.

    Requests and streams that are there may end; after `limit_s` seconds they are left to whatever comes next.
    `by_operator`: `/readyz` says no as well, and it stays so through roll-outs.
    """
    wanted = {"draining": True, **({"closed": True, "by_operator": True} if by_operator else {})}
    _ask(directory, revision, wanted)
    return _emptied(directory, revision.fleet, limit_s, tell)


def close(directory: SiteDirectory, revision: Revision, limit_s: float, tell: Progress) -> str:
    """Drain the site, and wait until clients have left its front door as well, at most `limit_s` seconds.

    They are told by `/readyz`. What they ask meanwhile is answered, by other sites.
    """
    _ask(directory, revision, {"draining": True, "closed": True})
    said = _emptied(directory, revision.fleet, limit_s, tell)
    tell(f"{directory.site}: waiting until clients have left its front door, which /readyz tells them to")
    if _left_alone(directory, limit_s):
        return f"{said}; its clients have left"
    return f"{said}; clients still came to its front door after {limit_s:g} s"


def undrain(directory: SiteDirectory, revision: Revision) -> None:
    """Let the site answer again."""
    _ask(directory, revision, {"draining": False, "closed": False, "by_operator": False})


def _ask(directory: SiteDirectory, revision: Revision, wanted: dict[str, bool]) -> None:
    asked = transition.read(directory.path)
    then = asked.model_copy(update=wanted)
    # Before it closes and after it has opened: its supervisor expects nothing that is not so.
    if then.closed and not asked.closed:
        _probe(directory, revision.fleet, then)
    front_door.ask(directory, revision, then)
    if asked.closed and not then.closed:
        _probe(directory, revision.fleet, then)


def _probe(directory: SiteDirectory, fleet: Fleet, then: Transition) -> None:
    """Have the supervisor ask a closed front door only whether it lives: it says that it is not ready."""
    spec = directory.read_spec()
    if spec is None or not directory.supervised():
        return
    url = door.probe(fleet, directory.site, closed=then.closed)
    parts = [part.model_copy(update={"ready": url}) if part.name == "envoy" else part for part in spec.parts]
    changed = spec.model_copy(update={"parts": parts, "revision": uuid4().hex})
    directory.write_spec(changed)
    lifecycle.reload(directory, changed)


def _emptied(directory: SiteDirectory, fleet: Fleet, limit_s: float, tell: Progress) -> str:
    site = directory.site
    if only := sorted(_only_here(fleet, site)):
        tell(f"{site}: no other site answers {', '.join(only)}: while this one changes, nobody does")
    begun = time.monotonic()
    here = [name for name in running_sites(fleet.fleet) if name in fleet.sites]
    at_least = _READ_S if len(here) == len(fleet.sites) else _TOLD_S
    while (passed := time.monotonic() - begun) < _NOTICED_S:
        if passed > at_least and all(_noticed(fleet, site, name) for name in here if name != site):
            break
        time.sleep(_LOOK_EVERY_S)
    left = wait_for_end(directory, _ports(directory), limit_s)
    seconds = time.monotonic() - begun
    if left:
        return f"{left} requests or streams were still in flight after {seconds:.1f} s"
    return f"nothing in flight after {seconds:.1f} s"


def wait_for_end(directory: SiteDirectory, ports: set[int], limit_s: float) -> int:
    """Wait until the site's front door has nothing in flight to `ports`; returns what was left at the end."""
    admin, deadline = _admin(directory), time.monotonic() + limit_s
    while (left := _in_flight(admin, ports)) and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
    return left


def _in_flight(admin: int, ports: set[int]) -> int:
    """Nothing where no Envoy answers: what it had is lost already."""
    try:
        return seen.in_flight(admin, ports) if admin else 0
    except HeadendError:
        return 0


def _left_alone(directory: SiteDirectory, limit_s: float) -> bool:
    """Wait until the front door leads nothing anywhere any more; whether that came within the limit."""
    admin, deadline = _admin(directory), time.monotonic() + limit_s
    known, since = -1, time.monotonic()
    while time.monotonic() - since < _LEFT_S:
        try:
            total, active = seen.led(admin) if admin else (0, 0)
        except HeadendError:
            return True
        if active or total != known:
            known, since = total, time.monotonic()
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_EVERY_S)
    return True


def _admin(directory: SiteDirectory) -> int:
    spec = directory.read_spec()
    return spec.ports["envoy-admin"] if spec and directory.supervised() else 0


def _ports(directory: SiteDirectory) -> set[int]:
    """Where the site's own parts answer requests."""
    spec = directory.read_spec()
    parts = spec.parts if spec else []
    return {port for part in parts if part.name in ("triton", "serve") for port in part.ports.values()}


def _only_here(fleet: Fleet, site: str) -> set[str]:
    running = running_sites(fleet.fleet)
    # Of those that were never started on this machine one cannot know.
    stopped = {name for name in fleet.sites if name not in running and _known_here(fleet, name)}
    others = [name for name in fleet.sites if name != site and name not in stopped]
    elsewhere = {what for name in others for what in (*fleet.models_at(name), *fleet.apps_at(name))}
    return {*fleet.models_at(site), *fleet.apps_at(site)} - elsewhere


def _known_here(fleet: Fleet, site: str) -> bool:
    return SiteDirectory(fleet.fleet, site).read_spec() is not None


def _noticed(fleet: Fleet, site: str, other: str) -> bool:
    """Whether the front door of `other`, on this machine, has found `site` unready wherever it asks it."""
    port = int(fleet.sites[site].peer_address.rpartition(":")[2])
    try:
        found = seen.hosts(_admin(SiteDirectory(fleet.fleet, other)))
    except HeadendError:  # it leads nothing anywhere
        return True
    peers = [host for host in found if host.port == port and (host.requests or _is_home(host.cluster))]
    return all(host.probed_unhealthy for host in peers)


def _is_home(cluster: str) -> bool:
    """Where other sites are the last resort."""
    return cluster.endswith((".http", ".grpc"))
