"""The live routers' plan in a simulation: computed once a second from telemetry as old as it would be."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from loadtests.sim.server import Server
from loadtests.sim.times import Floats, Service, cv2
from loadtests.sim.topology import SimulatedPool, Topology
from serving.fleet import CLASSES, Class
from serving.router.plan import Member, Plan, PoolProblem, Problem, plan
from serving.router.telemetry.counters import Counters
from serving.router.telemetry.exchange import PERIOD_S
from serving.router.telemetry.facts import RATE_WINDOW_S
from serving.router.telemetry.in_flight import InFlight
from serving.router.view import FleetView

if TYPE_CHECKING:
    from loadtests.sim.simulation import Simulation

EVERY_S = 1.0
MEASURED = 100
"""Executions after which a site's statistics say how long they take."""
KIB = 1024
Key = tuple[str, str, Class]
"""A front door, a pool, a class."""


class _Reading(NamedTuple):
    """What all agents together have read at one moment."""

    at: float
    brought: Mapping[Key, float]
    in_flight: Mapping[tuple[str, int], int]
    """By pool and site."""
    under_way: Mapping[tuple[str, int, int], int]
    """By pool, front door and site."""


class Planning:
    """Counts what clients bring, and plans."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._topology = sim.topology
        self._names = sorted(sim.names)
        self._age = sim.topology.telemetry_s
        self._read: deque[_Reading] = deque()
        """What has been read at front doors and not been heard of yet."""
        self._brought: Counters[Key] = Counters(RATE_WINDOW_S)
        self._in_flight: InFlight[tuple[str, int]] = InFlight(RATE_WINDOW_S)
        self._under_way: InFlight[tuple[str, int, int]] = InFlight(RATE_WINDOW_S)
        self._rtt, self._per_byte = _links(sim.topology, self._names)
        self._uplinks = _uplinks(sim.topology, self._names)
        self._look(None)
        self.plan: Plan = plan(self._problem())
        """The first one is from before the campaign: the fleet was there already, and had nothing to do."""
        self.turn = 0
        """Counts the plans."""
        sim.at(EVERY_S, self._tick, None)

    def informed(self, view: FleetView) -> FleetView:
        """A front door's view with what the plan says to it."""
        door = view.local.name
        return replace(
            view,
            plan=self.plan.of_door(door),
            thresholds=self.plan.thresholds(door),
            choices=self.plan.choices(door, self._ways(self._sim.names.index(door))),
        )

    def _ways(self, door: int) -> dict[str, dict[str, float]]:
        """By pool and site that the door reaches: requests under way there, on average of late."""
        names = self._sim.names
        return {
            view.pool.key: {
                names[site]: fmean(self._under_way.seen((pool, door, site)))
                for site in view.sites
                if site != door
            }
            for pool, views in self._sim.views.items()
            if (view := views.get(door))
        }

    def _look(self, _: None) -> None:
        sim = self._sim
        in_flight = {
            (pool, number): server.in_flight
            for pool, servers in sim.servers.items()
            for number, server in servers.items()
        }
        under_way = {
            (pool, door, site): count
            for pool, views in sim.views.items()
            for door, view in views.items()
            for site, count in enumerate(view.outstanding)
        }
        self._read.append(_Reading(sim.now, dict(sim.brought), in_flight, under_way))
        while self._read and self._read[0].at <= sim.now - self._age:
            read = self._read.popleft()
            self._brought.add(read.at, read.brought)
            self._in_flight.take(read.at, read.in_flight)
            self._under_way.take(read.at, read.under_way)
        if sim.now + PERIOD_S < sim.campaign.seconds:
            sim.at(sim.now + PERIOD_S, self._look, None)

    def _tick(self, _: None) -> None:
        sim = self._sim
        self.plan = plan(self._problem(), self.plan)
        self.turn += 1
        if sim.now + EVERY_S < sim.campaign.seconds:
            sim.at(sim.now + EVERY_S, self._tick, None)

    def _problem(self) -> Problem:
        topology, rate = self._topology, self._brought.current_rate
        pools = tuple(
            PoolProblem(
                pool=topology.router_pool(pool),
                members=tuple(
                    replace(
                        _member(site, server, topology.at(site, pool), topology.sites[site].speed),
                        room=server.room,
                        in_flight=fmean(self._in_flight.seen((pool, number))),
                        peak=self._in_flight.most((pool, number)),
                    )
                    for site, number, server in sorted(
                        (self._sim.names[number], number, server)
                        for number, server in self._sim.servers[pool].items()
                    )
                    if server.up
                ),
                offered={
                    class_: np.array([rate((door, pool, class_)) for door in self._names])
                    for class_ in CLASSES
                },
                request_bytes=declared.request_kib * KIB,
                response_bytes=declared.response_kib * KIB,
            )
            for pool, declared in sorted(topology.pools.items())
        )
        return Problem(tuple(self._names), self._rtt, self._per_byte, pools, uplink_bytes_per_s=self._uplinks)


def _member(site: str, server: Server, pool: SimulatedPool, speed: float) -> Member:
    """As the site's statistics show it: what is declared, until there are executions to measure."""
    service = Service(pool.service, speed, np.random.default_rng(0))
    smallest = pool.service[min(pool.service)]
    slower = 1.0
    if server.batches >= MEASURED:
        rows = server.served / server.batches
        slower = server.computed_s / server.batches / max(service.mean(max(1, round(rows))), 1e-9)
    return Member(
        site=site,
        instances=pool.instances,
        single_s=slower * service.mean(1),
        max_batch=pool.max_batch,
        full_s=slower * service.mean(pool.max_batch),
        cv2=cv2(smallest),
    )


def _links(topology: Topology, names: list[str]) -> tuple[Floats, Floats]:
    network = topology.network
    rtt = np.array([[network.rtt_s(a, b) for b in names] for a in names])
    per_byte = np.array([[0.0 if a == b else 1 / topology.bytes_per_s(a, b) for b in names] for a in names])
    return rtt, per_byte


def _uplinks(topology: Topology, names: list[str]) -> Floats | None:
    """Bytes a second of every site's own line; None where no site declares one."""
    lines = [topology.sites[name].uplink_mbit_s for name in names]
    return np.array([line * 1e6 / 8 if line else np.inf for line in lines]) if any(lines) else None
