"""How the fleet's sites on this machine are, for people and for scripts."""

from __future__ import annotations

from collections.abc import Iterable

from models.errors import DeclarationError, UsageError
from models.files import write_atomic
from models.home import home
from models.schema import Strict
from serving.fleet import Fleet, demo_fleet
from serving.router import transition
from serving.site import process
from serving.site.machine import State
from serving.site.rollout.summary import RolloutStatus, rollout_of
from serving.site.spec import PartState, SiteDirectory


class PartStatus(Strict):
    """One part."""

    state: State
    pid: int | None
    ports: dict[str, int]
    memory: int
    """Bytes held by all of its processes."""
    restarts: int
    since: float
    """When it entered its state, seconds since the epoch."""
    error: str
    """Why it failed last; empty if it never did."""


class SiteStatus(Strict):
    """One site. Its `pid` is its supervisor's."""

    state: State
    pid: int | None
    front_door: str
    peer: str
    ports: dict[str, int]
    """Those of front door and peer listener; the parts have the inner ones."""
    memory: int
    """Bytes held by the supervisor and all parts."""
    parts: dict[str, PartStatus]
    draining: bool = False
    """Other sites answer what they can in its place."""


class FleetStatus(Strict):
    """All sites of a fleet."""

    fleet: str
    ready: bool
    """Whether every part of every site is ready."""
    memory: int
    sites: dict[str, SiteStatus]
    rollout: RolloutStatus | None = None
    """The one under way, or how the last one went."""


def status_of(fleet: Fleet, sites: Iterable[str]) -> FleetStatus:
    """Look at `sites` now."""
    found = {site: _site(fleet, site) for site in sites}
    return FleetStatus(
        fleet=fleet.fleet,
        ready=all(site.state is State.READY for site in found.values()),
        memory=sum(site.memory for site in found.values()),
        sites=found,
        rollout=rollout_of(fleet.fleet),
    )


def _site(fleet: Fleet, name: str) -> SiteStatus:
    state = SiteDirectory(fleet.fleet, name).read_state()
    parts = {part.name: _part(part) for part in state.parts} if state else {}
    supervisor = state.supervisor if state else 0
    own = process.own_memory(supervisor) if supervisor else 0
    site = fleet.sites[name]
    addresses = {"front-door": site.front_door, "peer": site.peer_address}
    return SiteStatus(
        state=state.state if state else State.STOPPED,
        pid=supervisor or None,
        front_door=site.front_door,
        peer=site.peer_address,
        ports={what: int(address.rpartition(":")[2]) for what, address in addresses.items()},
        memory=own + sum(part.memory for part in parts.values()),
        parts=parts,
        draining=transition.read(SiteDirectory(fleet.fleet, name).path).draining,
    )


def _part(part: PartState) -> PartStatus:
    memory = process.memory(part.keeper) if part.keeper else 0
    return PartStatus(memory=memory, **part.model_dump(exclude={"name", "keeper"}))


def remember(fleet: Fleet) -> None:
    """Keep the declaration of a fleet that is being started, for commands that are not given its file."""
    write_atomic(home() / "fleets" / fleet.fleet / "fleet.json", fleet.model_dump_json(indent=1).encode())


def running_fleet() -> Fleet:
    """The fleet with a living site on this machine, or the demo fleet when there is none.

    Raises `UsageError` when several fleets run here.
    """
    names = sorted(path.parent.parent.name for path in (home() / "fleets").glob("*/*/spec.json"))
    running = [name for name in dict.fromkeys(names) if running_sites(name)]
    if len(running) > 1:
        raise UsageError(
            f"Several fleets run here: {', '.join(running)}.", hint="Name the one you mean: -f fleet.yaml"
        )
    if not running:
        return demo_fleet()
    path = home() / "fleets" / running[0] / "fleet.json"
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise DeclarationError(f"{path}: {error.strerror or error}") from error
    # Not `load`: a capacity record that has been moved away must not keep anyone from ending the fleet.
    return Fleet.parse(text, where=str(path))


def running_sites(fleet: str) -> list[str]:
    """Names of the fleet's sites that have a living supervisor here, declared still or not."""
    paths = sorted((home() / "fleets" / fleet).glob("*/spec.json"))
    return [path.parent.name for path in paths if SiteDirectory(fleet, path.parent.name).supervised()]
