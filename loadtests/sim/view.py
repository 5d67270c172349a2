"""What one front door knows of one pool, and how it asks the pool's sites until one answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from loadtests.sim.request import Request
from loadtests.sim.server import Server
from serving.fleet import Class
from serving.router.view import FleetView, Pool

if TYPE_CHECKING:
    from loadtests.sim.planning import Planning
    from loadtests.sim.simulation import Simulation

RETRIES = 2
"""A front door asks again as often as there are other sites, and at least so often (`routes`)."""
BACK_OFF_S, MOST_BACK_OFF_S = 0.005, 0.1
"""Envoy's fully jittered exponential back-off with the router's base and limit."""
EJECTED_AT_MOST = 0.5
"""Share of a pool's sites that a door may leave out for errors."""


class Policy(Protocol):
    """Chooses the site of one attempt.

    `view` is what the door knows of the pool, `sites` those that may be asked (healthy as far as the door
    knows, and not tried yet), the door's own first and then the nearest. None gives the request up.
    """

    def __call__(self, view: View, class_: Class, sites: Sequence[int], /) -> int | None:
        """A number out of `sites`."""
        ...


@dataclass
class Door:
    """A site's front door."""

    site: int
    name: str
    up: bool = True
    epoch: int = 0
    """Counts its ends: what it had accepted before is lost."""
    down_at: float = 0


@dataclass(frozen=True)
class Way:
    """From a door to a site and back, seconds."""

    half: float
    """Half a round trip."""
    up: float
    """Sending a request."""
    down: float
    """Sending an answer."""

    @cached_property
    def back(self) -> float:
        """All of it."""
        return 2 * self.half + self.up + self.down


class View:
    """One door's view of one pool. Sites are numbers, places in `names`."""

    def __init__(
        self,
        sim: Simulation,
        door: Door,
        pool: Pool,
        servers: Mapping[int, Server],
        seen: Sequence[int],
        nearest: Sequence[int],
        way: Callable[[int], Way],
    ) -> None:
        self._sim, self._way = sim, way
        self._ways: dict[int, Way] = {}
        self._failures: dict[int, int] = {}
        self._out = {site for site, server in servers.items() if not server.up}
        self.door, self.pool = door, pool
        self.names = sim.names
        self.servers = servers
        """All sites' true states: for what a door can count by itself, probes, and bounds."""
        self.seen = seen
        """Requests in flight at each site, as old as the topology's `telemetry_s`."""
        self.nearest = tuple(nearest)
        """All sites of the pool, the door's own first, then by round trip."""
        self.home = nearest[0]
        self.outstanding = [0] * len(self.names)
        """Requests of this door in flight at each site."""
        self.random: random.Random = sim.random
        self.memory: dict[str, Any] = {}
        """What the policy wants to keep."""
        self.sites: Sequence[int] = ()
        self._choose_sites()

    @property
    def now(self) -> float:
        """The time, seconds since the campaign's start."""
        return self._sim.now

    @cached_property
    def fleet(self) -> FleetView:
        """The fleet as this front door's live router sees it."""
        return self._sim.fleet_view(self.door.site)

    @property
    def planning(self) -> Planning:
        """The live routers' plan."""
        return self._sim.planning

    @property
    def sim(self) -> Simulation:
        """The whole simulation: for what no front door could know."""
        return self._sim

    def server(self, site: int) -> Server:
        """The true state of a site that serves the pool."""
        return self.servers[site]

    def rtt(self, site: int) -> float:
        """Round trip of next to no payload, seconds."""
        return 2 * self._way_to(site).half

    def way_s(self, site: int) -> float:
        """Round trip with the payloads, and what waits for the lines now, seconds."""
        way, sim, here = self._way_to(site), self._sim, self.door.site
        up = sim.free_at(here, site) - sim.now if way.up else 0.0
        down = sim.free_at(site, here) - sim.now if way.down else 0.0
        return up + way.back + down

    def in_flight(self, site: int) -> int:
        """Requests at a site: exactly at the own one, at others as telemetry says, or more where the door
        itself has more under way."""
        if site == self.door.site:
            return self.server(site).in_flight
        return max(self.seen[site], self.outstanding[site])

    def _way_to(self, site: int) -> Way:
        way = self._ways.get(site)
        if way is None:
            way = self._ways[site] = self._way(site)
        return way

    def send(self, request: Request) -> None:
        """Ask a site."""
        door, sim = self.door, self._sim
        if request.epoch != door.epoch:
            sim.end(request, "connection", door.down_at)
            return
        tried = request.tried
        sites = [site for site in self.sites if site not in tried] if tried else self.sites
        if tried and not sites:
            tried.clear()
            sites = self.sites
        site = sim.policy(self, request.lane.class_, sites) if sites else None
        if site is None:
            sim.end(request, "refused", sim.now)
            return
        request.attempts += 1
        request.site = site
        self.outstanding[site] += 1
        server = self.server(site)
        if site == door.site:
            request.is_guest = False
            server.arrive(request)
        else:
            request.is_guest = True
            way = self._way_to(site)
            server.coming += 1
            sim.at(sim.carry(door.site, site, way.up) + way.half, self._arrive, request)

    def _arrive(self, request: Request) -> None:
        server = self.server(request.site)
        server.coming -= 1
        server.arrive(request)

    def served(self, request: Request, overhead: float) -> None:
        """A server has answered: bring the answer back."""
        request.overhead = overhead
        if request.is_guest:
            way, sim = self._way_to(request.site), self._sim
            sim.at(sim.carry(request.site, self.door.site, way.down) + way.half, self._answered, request)
        else:
            self._answered(request)

    def _answered(self, request: Request) -> None:
        site = request.site
        self.outstanding[site] -= 1
        if self._failures:
            self._failures.pop(site, None)
        ended = self._sim.now + request.overhead
        if request.epoch != self.door.epoch:
            self._sim.end(request, "connection", self.door.down_at)
        elif ended - request.intended > request.lane.timeout:
            self._sim.end(request, "timeout", request.intended + request.lane.timeout)
        else:
            self._sim.end(request, "ok", ended)

    def refused(self, request: Request) -> None:
        """A server's room is taken: ask another."""
        self._back(request, self._again)

    def lost(self, request: Request) -> None:
        """A server has gone with the request, or was not there: ask another."""
        self._back(request, self._failed)

    def _back(self, request: Request, then: Callable[[Request], None]) -> None:
        if request.is_guest:
            self._sim.at(self._sim.now + self._way_to(request.site).half, then, request)
        else:
            then(request)

    def _failed(self, request: Request) -> None:
        site = request.site
        failures = self._failures[site] = self._failures.get(site, 0) + 1
        if failures >= self._sim.topology.failures.eject_after:
            self._eject(site)
        self._again(request)

    def _again(self, request: Request) -> None:
        self.outstanding[request.site] -= 1
        request.tried.append(request.site)
        now = self._sim.now
        if request.intended + request.lane.timeout <= now:
            self._sim.end(request, "timeout", request.intended + request.lane.timeout)
            return
        if request.attempts > max(RETRIES, len(self.names) - 1):
            self._sim.end(request, "refused", now)
            return
        longest = min(MOST_BACK_OFF_S, BACK_OFF_S * (2 ** min(request.attempts, 10) - 1))
        self._sim.at(now + self.random.random() * longest, self.send, request)

    def _eject(self, site: int) -> None:
        most = max(1, int(len(self.nearest) * EJECTED_AT_MOST))
        if site in self._out or len(self._out) >= most or len(self.nearest) == 1:
            return
        self._out.add(site)
        self._choose_sites()
        self._sim.at(self._sim.now + self._sim.topology.failures.eject_s, self._readmit, site)

    def _readmit(self, site: int) -> None:
        self._failures.pop(site, None)
        if self.server(site).up:
            self._out.discard(site)
            self._choose_sites()

    def learn(self, what: tuple[int, bool]) -> None:
        """Probes have found out that a site answers the pool, or does not any more."""
        site, up = what
        if self.server(site).up != up:
            return
        if up:
            self._out.discard(site)
            self._failures.pop(site, None)
        else:
            self._out.add(site)
        self._choose_sites()

    def _choose_sites(self) -> None:
        self.sites = tuple(site for site in self.nearest if site not in self._out)
