"""The simulation itself: a clock, a heap of events, and the campaign's arrivals."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from heapq import heappop, heappush
from itertools import count
from typing import Any

import numpy as np

from loadtests import arrivals
from loadtests.campaign import Campaign, Work
from loadtests.results import Outcome
from loadtests.sim.failures import Failures
from loadtests.sim.live_view import fleet_view, site_views
from loadtests.sim.planning import Planning
from loadtests.sim.request import Lane, Request
from loadtests.sim.server import Server, SharedMachine
from loadtests.sim.tallying import Counts
from loadtests.sim.topology import Topology
from loadtests.sim.view import Door, Policy, View, Way
from models.errors import UsageError
from serving.fleet import Class
from serving.router.view import FleetView

Action = Callable[[Any], None]
KIB = 1024


class Simulation:
    """One campaign, sent by one worker, on one topology under one policy. The seed decides everything.

    Raises `UsageError` when the campaign asks for a pool that no site of the topology answers.
    """

    def __init__(self, campaign: Campaign, topology: Topology, policy: Policy) -> None:
        if missing := topology.missing(work.pool for work in campaign.workload):
            raise UsageError(
                f"topology `{topology.topology}` has no site for `{missing[0]}`, which the campaign asks for",
                hint=f"It knows: {', '.join(topology.pools)}.",
            )
        self.campaign, self.topology, self.policy = campaign, topology, policy
        self.names = list(topology.sites)
        self.now = 0.0
        self.heap: list[tuple[float, int, Action, Any]] = []
        self.connect_s = topology.failures.connect_s
        self.random = random.Random(campaign.seed)
        self.doors = [Door(number, name) for number, name in enumerate(self.names)]
        self._machines = {
            name: SharedMachine(self, machine.cores) for name, machine in topology.machines.items()
        }
        self.servers = {pool: self._servers(pool) for pool in topology.pools}
        self.views: defaultdict[str, dict[int, View]] = defaultdict(dict)
        self.counts = Counts(campaign, self.names)
        self.ended_by = "time"
        self.events = 0
        """Events that were taken from the heap."""
        self._seen = {
            pool: [0] * len(self.names) if topology.telemetry_s else _Live(servers, len(self.names))
            for pool, servers in self.servers.items()
        }
        self.order = count()
        self._in_flight = 0
        self._links: dict[tuple[int, int], float] = {}
        """When what each link carries is through, and (with -1) each site's own line to all others."""
        self._site_views = site_views(topology)
        self.brought: Counter[tuple[str, str, Class]] = Counter()
        """Requests that clients have brought, by door, pool and class."""
        self.memory: dict[str, Any] = {}
        """What policies want to keep for all doors together."""
        self.failures = Failures(self)

    def _servers(self, pool: str) -> dict[int, Server]:
        """By the number of their site."""
        topology, place = self.topology, list(self.topology.pools).index(pool)
        return {
            number: Server(
                self,
                number,
                pool,
                topology.at(name, pool),
                site.speed,
                self._machines[site.machine] if site.machine else None,
                np.random.default_rng(
                    np.random.SeedSequence(self.campaign.seed, spawn_key=(place, number, 0))
                ),
            )
            for number, (name, site) in enumerate(topology.sites.items())
            if topology.serves(name, pool)
        }

    def fleet_view(self, site: int) -> FleetView:
        """The fleet as the live router of this site would see it."""
        return fleet_view(self.topology, self._site_views, self.names[site])

    @cached_property
    def planning(self) -> Planning:
        """The live routers' plan; it is computed from the first time that a policy asks for it."""
        return Planning(self)

    def at(self, time: float, action: Action, argument: Any) -> None:
        """Do `action(argument)` at `time`; what is due at one moment happens as it was asked for."""
        heappush(self.heap, (time, next(self.order), action, argument))

    def carry(self, origin: int, target: int, seconds: float) -> float:
        """When a payload that takes so long is through a link, which carries one after the other."""
        if not seconds:
            return self.now
        ends = self.free_at(origin, target) + seconds
        for line in self._lines(origin, target):
            self._links[line] = ends
        return ends

    def free_at(self, origin: int, target: int) -> float:
        """From when on a link carries what comes next: not before now."""
        return max(self.now, *(self._links.get(line, 0.0) for line in self._lines(origin, target)))

    def _lines(self, origin: int, target: int) -> list[tuple[int, int]]:
        sites, names = self.topology.sites, self.names
        lines = [(origin, target)]
        if sites[names[origin]].uplink_mbit_s:
            lines.append((origin, -1))
        if sites[names[target]].uplink_mbit_s:
            lines.append((-1, target))
        return lines

    def run(self) -> None:
        """Let everything happen, until the last answer."""
        lanes: dict[tuple[str, str], Lane] = {}
        limits, heap = self.campaign.limits, self.heap
        spent = 0.0
        self._hear(None)
        for sent, (at, door, work) in enumerate(arrivals.schedule(self.campaign, self.names), start=1):
            while heap and heap[0][0] <= at:
                self.now, _, action, argument = heappop(heap)
                self.events += 1
                action(argument)
            self.now = at
            lane = lanes.get((door, work.name))
            if lane is None:
                lane = lanes[door, work.name] = self._lane(door, work)
            spent += lane.price
            self._begin(lane)
            if sent >= limits.requests or (limits.spend and spent >= limits.spend):
                self.ended_by = "requests" if sent >= limits.requests else "spend"
                break
        else:
            self.now = self.campaign.seconds
        self.seconds = self.now
        while heap:
            self.now, _, action, argument = heappop(heap)
            self.events += 1
            action(argument)

    def _begin(self, lane: Lane) -> None:
        door = lane.view.door
        if not door.up:
            self.counts.add(lane.number, door.site, -1, "connection", self.now, self.now, 1)
        elif self._in_flight >= self.campaign.limits.in_flight:
            self.counts.add(lane.number, door.site, -1, "not-sent", self.now, self.now, 1)
        else:
            self._in_flight += 1
            self.brought[door.name, lane.view.pool.name, lane.class_] += 1
            lane.view.send(Request(lane, self.now, door.epoch))

    def end(self, request: Request, outcome: Outcome, ended: float) -> None:
        """A request has its answer, or none."""
        self._in_flight -= 1
        lane = request.lane
        site = request.site if outcome == "ok" else -1
        ended = max(ended, request.intended)
        self.counts.add(
            lane.number, lane.view.door.site, site, outcome, request.intended, ended, max(1, request.attempts)
        )

    def _lane(self, door: str, work: Work) -> Lane:
        return Lane(
            view=self._view(self.names.index(door), work.pool),
            number=self.campaign.workload.index(work),
            class_=work.class_,
            input=work.input,
            rows=work.batch,
            timeout=work.timeout_s,
            price=self.campaign.limits.price_per_1000.get(work.pool, 0.0) / 1000,
        )

    def _view(self, door: int, pool: str) -> View:
        views = self.views[pool]
        if door not in views:
            servers = self.servers[pool]
            here, network = self.names[door], self.topology.network
            distance = [network.rtt_s(here, name) for name in self.names]
            # The door's own first, also where others are no farther; of equals as declared.
            distance[door] = -1
            nearest = sorted(servers, key=distance.__getitem__)
            views[door] = View(
                self,
                self.doors[door],
                self.topology.router_pool(pool),
                servers,
                self._seen[pool],
                nearest,
                lambda site: self._way(pool, door, site),
            )
        return views[door]

    def _way(self, pool: str, door: int, site: int) -> Way:
        if door == site:
            return Way(0, 0, 0)
        ends, declared = (self.names[door], self.names[site]), self.topology.pools[pool]
        speed = self.topology.bytes_per_s(*ends)
        return Way(
            half=self.topology.network.rtt_s(*ends) / 2,
            up=declared.request_kib * KIB / speed,
            down=declared.response_kib * KIB / speed,
        )

    def _hear(self, _: None) -> None:
        """Every door hears how busy every site is."""
        age = self.topology.telemetry_s
        if not age or self.now >= self.campaign.seconds:
            return
        for pool, servers in self.servers.items():
            seen = self._seen[pool]
            if isinstance(seen, list):
                for site, server in servers.items():
                    seen[site] = server.in_flight
        self.at(self.now + age, self._hear, None)


class _Live(Sequence[int]):
    """Requests in flight by site, always as they are."""

    def __init__(self, servers: Mapping[int, Server], sites: int) -> None:
        self._servers, self._sites = servers, sites

    def __getitem__(self, site: Any) -> Any:
        return self._servers[site].in_flight if site in self._servers else 0

    def __len__(self) -> int:
        return self._sites
