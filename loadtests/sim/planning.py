"""The live routers' plan in a simulation: computed once a second from telemetry as old as it would be."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

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


class Planning:
    """Counts what clients bring, and plans."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._topology = sim.topology
        self._names = sorted(sim.names)
        self._age = sim.topology.telemetry_s
        self._read: deque[tuple[float, dict[Key, float], dict[tuple[str, int], int]]] = deque()
        """What has been read at front doors and not been heard of yet."""
        self._brought: Counters[Key] = Counters(RATE_WINDOW_S)
        self._in_flight: InFlight[tuple[str, int]] = InFlight(RATE_WINDOW_S)
        self._rtt, self._per_byte = _links(sim.topology, self._names)
        self._uplinks = _uplinks(sim.topology, self._names)
        self.plan: Plan | None = None
        """None as long as there is nothing to plan by."""
        self.turn = 0
        """Counts the plans."""
        self._look(None)
        self._tick(None)

    def informed(self, view: FleetView) -> FleetView:
        """A front door's view with what the plan says to it."""
        if self.plan is None:
            return view
        door = view.local.name
        return replace(view, plan=self.plan.of_door(door), thresholds=self.plan.thresholds(door))

    def _look(self, _: None) -> None:
        sim = self._sim
        in_flight = {
            (pool, number): server.in_flight
            for pool, servers in sim.servers.items()
            for number, server in servers.items()
        }
        self._read.append((sim.now, dict(sim.brought), in_flight))
        while self._read and self._read[0][0] <= sim.now - self._age:
            at, brought, had = self._read.popleft()
            self._brought.add(at, brought)
            self._in_flight.take(at, had)
        if sim.now + PERIOD_S < sim.campaign.seconds:
            sim.at(sim.now + PERIOD_S, self._look, None)

    def _tick(self, _: None) -> None:
        sim = self._sim
        if self._brought.seconds:
            self.plan = plan(self._problem(), self.plan)
            self.turn += 1
            self._turn_guests_back(self.plan)
        if sim.now + EVERY_S < sim.campaign.seconds:
            sim.at(sim.now + EVERY_S, self._tick, None)

    def _turn_guests_back(self, made: Plan) -> None:
        for site in self._names:
            for key, threshold in made.thresholds(site).items():
                server = self._sim.servers[key.partition(".")[2]][self._sim.names.index(site)]
                server.guests_at = threshold.guests_at

    def _problem(self) -> Problem:
        topology, rate = self._topology, self._brought.current_rate
        pools = tuple(
            PoolProblem(
                pool=topology.router_pool(pool),
                members=tuple(
                    replace(
                        _member(site, server, topology.at(site, pool), topology.sites[site].speed),
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
