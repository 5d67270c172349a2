"""What a front door knows of the fleet: pure data, from which all of Envoy's configuration follows."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from models.errors import DeclarationError
from serving.fleet import Class, Fleet, Limits, Tracing, may_answer
from serving.router.transition import Transition

LOOPBACK = "127.0.0.1"
Kind = Literal["model", "app", "server"]


@dataclass(frozen=True, order=True)
class Address:
    """An IP address and a TCP port."""

    ip: str
    port: int


@dataclass(frozen=True, order=True)
class Pool:
    """All the places in the fleet that can answer one app or model.

    The one pool of kind `server` is every Triton, for questions about the server itself.
    """

    kind: Kind
    name: str


SERVER = Pool("server", "triton")


@dataclass(frozen=True)
class LocalPorts:
    """Ports on the loopback interface of the local site's own parts."""

    triton_http: int
    triton_grpc: int
    apps: Mapping[str, int]
    """Where each app's replicas listen."""
    admin: int
    """Envoy's own administration."""
    agent: int = 0
    """The site's agent; 0: there is none."""


@dataclass(frozen=True)
class SiteView:
    """One site as others see it."""

    name: str
    front_door: Address
    peer: Address
    models: tuple[str, ...]
    apps: tuple[str, ...]

    def answers(self, pool: Pool) -> bool:
        """Whether this site belongs to `pool`."""
        if pool.kind == "server":
            return bool(self.models)
        return pool.name in (self.models if pool.kind == "model" else self.apps)


@dataclass(frozen=True)
class Threshold:
    """When a request leaves this site, by how many are in flight here; in between, shares decide."""

    stay_below: int
    """With fewer, it stays: a server is idle."""
    leave_at: int
    """With so many or more, it leaves: it would wait longer here than the way and the wait elsewhere take."""


@dataclass(frozen=True)
class FleetView:
    """The fleet as one site's front door sees it."""

    fleet: str
    local: SiteView
    others: tuple[SiteView, ...]
    ports: LocalPorts
    limits: Limits
    room: Mapping[str, int] = field(default_factory=dict)
    """Requests that the local site takes of a model at a time, waiting ones included; a model that is not
    named here refuses by itself what it cannot take."""
    confined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of a pool (`<kind>.<name>`) whose placement or residency bars sites: those that may be asked."""
    plan: Mapping[tuple[Pool, Class], Mapping[str, float]] = field(default_factory=dict)
    """What the plan says to this front door: for a pool and class, the share of each site."""
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    """Likewise, of a pool (`<kind>.<name>`): when a request leaves whatever the shares say."""
    transition: Transition = field(default_factory=Transition)
    """What a roll-out or an operator asks of this front door."""
    identity: str | None = None
    """Directory of the local site's certificates (`serving.identity.SiteIdentity`); None: sites speak in
    the clear."""

    tracing: Tracing | None = None
    """Where spans go; None: there are none."""

    @classmethod
    def of(
        cls, fleet: Fleet, site: str, ports: LocalPorts, room: Mapping[str, int] | None = None
    ) -> FleetView:
        """The view of `site`.

        Host names become IP addresses here, because Envoy's endpoint discovery takes no names.
        Raises `DeclarationError` when one cannot be resolved.
        """
        views = {name: _site_view(fleet, name) for name in fleet.sites}
        return cls(
            fleet=fleet.fleet,
            local=views[site],
            others=tuple(view for name, view in sorted(views.items()) if name != site),
            ports=ports,
            limits=fleet.limits,
            tracing=fleet.tracing,
            room=room or {},
            confined=_confined(fleet, site),
        )

    @cached_property
    def sites(self) -> tuple[SiteView, ...]:
        """All sites, the local one first."""
        return (self.local, *self.others)

    @cached_property
    def models(self) -> tuple[str, ...]:
        """Models that some site serves, sorted."""
        return tuple(sorted({model for site in self.sites for model in site.models}))

    @cached_property
    def apps(self) -> tuple[str, ...]:
        """Apps that some site runs, sorted."""
        return tuple(sorted({app for site in self.sites for app in site.apps}))

    @cached_property
    def pools(self) -> tuple[Pool, ...]:
        """Every pool that has at least one site."""
        servers = (SERVER,) if self.models else ()
        models = (Pool("model", name) for name in self.models)
        return (*servers, *models, *(Pool("app", name) for name in self.apps))

    def room_of(self, pool: Pool) -> int:
        """Requests in flight that this site takes of `pool` before it refuses."""
        declared = self.room.get(pool.name, self.limits.concurrency) if pool.kind == "model" else None
        return min(declared or self.limits.concurrency, self.limits.concurrency)

    def overflows(self, pool: Pool) -> bool:
        """Whether this front door has to count, and another site can take what is too much here."""
        is_counted = pool.kind == "model" and pool.name in self.room and self.local.answers(pool)
        return is_counted and len(self.sites_of(pool)) > 1

    def sites_of(self, pool: Pool) -> tuple[SiteView, ...]:
        """The sites that can and may answer `pool`, the local one first if it is among them."""
        allowed = self.confined.get(f"{pool.kind}.{pool.name}")
        members = (site for site in self.sites if site.answers(pool))
        return tuple(site for site in members if allowed is None or site.name in allowed)


def _site_view(fleet: Fleet, name: str) -> SiteView:
    site = fleet.sites[name]
    return SiteView(
        name=name,
        front_door=_resolve(name, site.front_door),
        peer=_resolve(name, site.peer_address),
        models=tuple(fleet.models_at(name)),
        apps=tuple(fleet.apps_at(name)),
    )


def _confined(fleet: Fleet, door: str) -> dict[str, tuple[str, ...]]:
    tags = {name: site.tags for name, site in fleet.sites.items()}
    uses = {f"model.{name}": use.balancing for name, use in fleet.models.items()}
    uses |= {f"app.{name}": use.balancing for name, use in fleet.apps.items()}
    allowed = {pool: tuple(may_answer(balancing, door, tags)) for pool, balancing in uses.items()}
    return {pool: sites for pool, sites in allowed.items() if len(sites) < len(tags)}


def _resolve(site: str, host_port: str) -> Address:
    host, _, port = host_port.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise DeclarationError(
            f"site `{site}`: cannot resolve {host}: {error}",
            hint="Write an IP address, or a name known here.",
        ) from error
    return Address(str(found[0][4][0]), int(port))
