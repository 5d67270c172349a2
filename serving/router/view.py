"""What a front door knows of the fleet: pure data, from which all of Envoy's configuration follows."""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from models.errors import DeclarationError
from serving.fleet import DEFAULT_CLASS, Access, Certificate, Class, Fleet, Limits, Tracing, may_answer
from serving.identity import ApiKey
from serving.router.options import MOST_OPTIONS, Choice, Threshold
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

    @property
    def key(self) -> str:
        """The pool's name among those of all kinds."""
        return f"{self.kind}.{self.name}"


SERVER = Pool("server", "triton")


@dataclass(frozen=True)
class Room:
    """What a site takes of a pool before its front door leads requests elsewhere, or refuses them."""

    at_once: int
    """Requests that are worked on at a time."""
    queue: int = 0
    """Requests that may wait beyond that."""
    patience_ms: float | None = None
    """How long a request may wait here at most, milliseconds; None: as long as the queue is."""

    @property
    def total(self) -> int:
        """Requests in flight."""
        return self.at_once + self.queue


@dataclass(frozen=True)
class Pace:
    """How fast the local site is at a pool, as measured."""

    service_ms: float | None
    """Milliseconds from a request to its answer while nothing else is asked; None: not known at present."""
    per_request_ms: float
    """Milliseconds between answers while the site is fully at work: 1000 / (requests per second)."""


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
    inside: int = 0
    """A door for the site's own apps, which show no key; 0: they use the front door."""


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
class FleetView:
    """The fleet as one site's front door sees it."""

    fleet: str
    local: SiteView
    others: tuple[SiteView, ...]
    ports: LocalPorts
    limits: Limits
    rooms: Mapping[str, Room] = field(default_factory=dict)
    """What the local site takes of a pool, by `Pool.key`; one that is not named here refuses by itself what
    it cannot take."""
    confined: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of a pool (`<kind>.<name>`) whose placement or residency bars sites: those that may be asked."""
    plan: Mapping[tuple[Pool, Class], Mapping[str, float]] = field(default_factory=dict)
    """What the plan says to this front door: for a pool and class, the share of each site."""
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    """Likewise, of a pool (`<kind>.<name>`): when a request leaves whatever the shares say."""
    choices: Mapping[str, Choice] = field(default_factory=dict)
    """Likewise, of a pool (`<kind>.<name>`): what each request is led by, instead of shares."""
    transition: Transition = field(default_factory=Transition)
    """What a roll-out or an operator asks of this front door."""
    identity: str | None = None
    """Directory of the local site's certificates (`serving.identity.SiteIdentity`); None: sites speak in
    the clear."""

    certificate: Certificate | None = None
    """What the front door shows to clients; None: they speak in the clear."""
    access: Access | None = None
    """Who may call; None: everybody."""
    keys: tuple[ApiKey, ...] = ()
    """API keys that count, or did; the front door's files of them are replaced apart from the rest."""
    tracing: Tracing | None = None
    """Where spans go; None: there are none."""
    pace: Mapping[str, Pace] = field(default_factory=dict)
    """How fast the local site is seen to be; without it, what waits is bounded by count alone."""
    rtt_ms: Mapping[str, float] = field(default_factory=dict)
    """Round-trip times to other sites, milliseconds: the nearest are the last resort."""
    classes: Mapping[str, Class] = field(default_factory=dict)
    """The class of requests that name none, where it is not the default."""

    @classmethod
    def of(
        cls, fleet: Fleet, site: str, ports: LocalPorts, rooms: Mapping[str, Room] | None = None
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
            certificate=fleet.sites[site].tls,
            access=fleet.access if isinstance(fleet.access, Access) else None,
            confined=_confined(fleet, site),
            rooms=rooms or {},
            classes={
                **{Pool("model", name).key: use.class_ for name, use in fleet.models.items()},
                **{Pool("app", name).key: use.class_ for name, use in fleet.apps.items()},
            },
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

    def counts(self, pool: Pool) -> bool:
        """Whether this front door counts what is in flight here, and keeps it within the room."""
        return pool.key in self.rooms and self.local.answers(pool)

    def threshold(self, pool: Pool) -> Threshold | None:
        """When a request leaves this site whatever the shares say; None: never, or the site drains."""
        return None if self.transition.draining else self.thresholds.get(pool.key)

    def choice(self, pool: Pool) -> Choice | None:
        """What requests are led by, one by one; None: shares and thresholds lead them, or the site drains."""
        return None if self.transition.draining or not self.weighs(pool) else self.choices.get(pool.key)

    def weighs(self, pool: Pool) -> bool:
        """Whether there are clusters of single sites to choose from."""
        return (
            self.local.answers(pool) and pool.kind != "server" and 0 < len(self.nearest(pool)) <= MOST_OPTIONS
        )

    def room_of(self, pool: Pool) -> int:
        """Requests in flight that this site takes of `pool` before it refuses."""
        room = self.rooms.get(pool.key)
        return min(room.total, self.limits.concurrency) if room else self.limits.concurrency

    def class_of(self, pool: Pool) -> Class:
        """The class of a request that names none."""
        return self.classes.get(pool.key, DEFAULT_CLASS)

    def sites_of(self, pool: Pool) -> tuple[SiteView, ...]:
        """The sites that can and may answer `pool`, the local one first if it is among them."""
        allowed = self.confined.get(f"{pool.kind}.{pool.name}")
        members = (site for site in self.sites if site.answers(pool))
        return tuple(site for site in members if allowed is None or site.name in allowed)

    def nearest(self, pool: Pool) -> list[SiteView]:
        """The other sites of `pool`, the nearest first; those whose distance is not known come last."""
        others = (site for site in self.sites_of(pool) if site is not self.local)
        return sorted(others, key=lambda site: (self.rtt_ms.get(site.name, math.inf), site.name))


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
