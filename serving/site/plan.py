"""What `headend up` would change, found out without changing anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from serving.fleet import Fleet
from serving.site import derive, ports
from serving.site.exposure import exposed
from serving.site.machine import State
from serving.site.rollout.history import wanted_bundles
from serving.site.spec import SiteDirectory, SiteSpec, SiteState
from serving.site.status import running_sites


@dataclass(frozen=True)
class SitePlan:
    """What would change at one site."""

    site: str
    ports: dict[str, int]
    """Inner ports, kept or newly chosen."""
    write: tuple[str, ...] = ()
    """Files that would be derived anew."""
    start: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    """Why its addresses cannot be listened on."""
    exposed: tuple[str, ...] = ()
    """Addresses that others can reach and where nobody would be asked who they are."""

    @property
    def changes(self) -> bool:
        """Whether anything would change."""
        return bool(self.write or self.start or self.restart or self.stop)


@dataclass(frozen=True)
class FleetPlan:
    """What would change in the fleet."""

    fleet: str
    build: tuple[str, ...]
    """Models without a bundle in the store."""
    bundles: Mapping[str, str]
    """Model to digest of the bundle that would be served."""
    sites: tuple[SitePlan, ...]
    retire: tuple[str, ...]
    """Sites that run and are not declared any more."""

    @property
    def changes(self) -> bool:
        """Whether anything would change."""
        return bool(self.build or self.retire) or any(site.changes for site in self.sites)


def make_plan(fleet: Fleet, sites: Iterable[str], pinned: Mapping[str, str] | None = None) -> FleetPlan:
    """Compare what the fleet declares for `sites` with what runs.

    `pinned`: digests of the bundles, by model; by default what the store has, except what was rolled back.
    Raises `DeclarationError` when a policy file that the fleet names is not valid.
    """
    from serving.apps.review.policy import Policy

    for app in fleet.apps.values():
        if app.policy:
            Policy.load(app.policy)
    sites = list(sites)
    wanted = sorted({model for site in sites for model in fleet.models_at(site)})
    found = wanted_bundles(fleet, wanted) if pinned is None else pinned
    bundles = {model: found[model] for model in wanted if model in found}
    return FleetPlan(
        fleet=fleet.fleet,
        build=tuple(model for model in wanted if model not in bundles),
        bundles=bundles,
        sites=tuple(_site_plans(fleet, sites, bundles)),
        retire=tuple(name for name in running_sites(fleet.fleet) if name not in fleet.sites),
    )


def _site_plans(fleet: Fleet, sites: Iterable[str], bundles: Mapping[str, str]) -> Iterable[SitePlan]:
    taken = {
        int(address.rpartition(":")[2])
        for site in fleet.sites.values()
        for address in (site.front_door, site.peer_address)
    }
    for site in sites:
        plan = _site_plan(fleet, site, bundles, taken)
        taken |= set(plan.ports.values())
        yield plan


def _site_plan(fleet: Fleet, site: str, bundles: Mapping[str, str], taken: set[int]) -> SitePlan:
    directory = SiteDirectory(fleet.fleet, site)
    spec, state = directory.read_spec(), directory.read_state()
    running = bool(state and state.supervisor)
    kept = spec.ports if spec else {}
    purposes = derive.ports_of(fleet, site)
    if running:  # its own parts hold them
        chosen = {purpose: kept[purpose] for purpose in purposes if purpose in kept}
        rest = [purpose for purpose in purposes if purpose not in kept]
        chosen |= ports.choose(rest, {}, taken | set(kept.values()))
    else:
        chosen = ports.choose(purposes, kept, taken)
    new = derive.digests(fleet, site, {m: bundles.get(m, "") for m in fleet.models_at(site)}, chosen)
    old = spec.derived if spec else {}
    return SitePlan(
        site=site,
        ports=chosen,
        write=tuple(kind for kind, digest in new.items() if old.get(kind) != digest),
        conflicts=() if running else tuple(_conflicts(fleet, site)),
        exposed=tuple(exposed(fleet, site)),
        **_parts(new, old, _outdated(fleet, directory, spec, chosen), state if running else None),
    )


def _outdated(
    fleet: Fleet, directory: SiteDirectory, spec: SiteSpec | None, ports: Mapping[str, int]
) -> set[str]:
    """Parts that were started with what a running process does not take up."""
    now = {part.name: part.fingerprint for part in spec.parts} if spec else {}
    wanted = derive.fingerprints(fleet, directory, ports)
    return {name for name, fingerprint in wanted.items() if now.get(name, fingerprint) != fingerprint}


def _parts(
    new: Mapping[str, str], old: Mapping[str, str], outdated: set[str], state: SiteState | None
) -> dict[str, tuple[str, ...]]:
    """Which parts to start, restart, stop and keep."""
    wanted = [part for kind, part in derive.PART_OF.items() if kind in new]
    running = {part.name: part.state for part in state.parts} if state else {}
    changed = outdated | {
        derive.PART_OF[kind]
        for kind, digest in new.items()
        if old.get(kind) != digest and kind not in derive.TAKEN_UP_WHILE_RUNNING
    }
    again = [
        name for name in wanted if name in running and (name in changed or running[name] is State.FAILED)
    ]
    return {
        "start": tuple(name for name in wanted if name not in running),
        "restart": tuple(again),
        "stop": tuple(name for name in running if name not in wanted),
        "keep": tuple(name for name in wanted if name in running and name not in again),
    }


def _conflicts(fleet: Fleet, site: str) -> Iterable[str]:
    for address in (fleet.sites[site].front_door, fleet.sites[site].peer_address):
        if obstacle := ports.obstacle(address):
            yield f"site {site}: {obstacle}"
