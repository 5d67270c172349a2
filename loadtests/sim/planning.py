"""The live routers' plan in a simulation: computed once a second from telemetry as old as it would be."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from loadtests.sim.server import Server
from loadtests.sim.times import Floats, Service, cv2
from loadtests.sim.topology import SimulatedPool, Topology
from serving.fleet import CLASSES, Class
from serving.router.plan import Member, Plan, PoolProblem, Problem, plan
from serving.router.view import FleetView

if TYPE_CHECKING:
    from loadtests.sim.simulation import Simulation

EVERY_S = 1.0
WINDOW_S = 3.0
"""Rates are over the last so many seconds, as agents count them."""
MEASURED = 100
"""Executions after which a site's statistics say how long they take."""
KIB = 1024


class Planning:
    """Counts what clients bring, and plans."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._topology = sim.topology
        self._names = sorted(sim.names)
        self._age = sim.topology.telemetry_s
        self._counts: deque[tuple[float, dict[tuple[str, str, Class], int]]] = deque()
        self._rtt, self._per_byte = _links(sim.topology, self._names)
        self.plan: Plan | None = None
        """None as long as there is nothing to plan by."""
        self.turn = 0
        """Counts the plans."""
        self._tick(None)

    def informed(self, view: FleetView) -> FleetView:
        """A front door's view with what the plan says to it."""
        if self.plan is None:
            return view
        door = view.local.name
        return replace(view, plan=self.plan.of_door(door), thresholds=self.plan.thresholds(door))

    def _tick(self, _: None) -> None:
        sim = self._sim
        self._counts.append((sim.now, dict(sim.brought)))
        while len(self._counts) > 1 and self._counts[1][0] <= sim.now - self._age - WINDOW_S:
            self._counts.popleft()
        known = [entry for entry in self._counts if entry[0] <= sim.now - self._age]
        if len(known) > 1:
            self.plan = plan(self._problem(*known[0], *known[-1]), self.plan)
            self.turn += 1
        if sim.now + EVERY_S < sim.campaign.seconds:
            sim.at(sim.now + EVERY_S, self._tick, None)

    def _problem(
        self,
        since: float,
        before: Mapping[tuple[str, str, Class], int],
        until: float,
        now: Mapping[tuple[str, str, Class], int],
    ) -> Problem:
        def rate(door: str, pool: str, class_: Class) -> float:
            key = (door, pool, class_)
            return (now.get(key, 0) - before.get(key, 0)) / (until - since)

        topology = self._topology
        pools = tuple(
            PoolProblem(
                pool=topology.router_pool(pool),
                members=tuple(
                    _member(site, server, topology.at(site, pool), topology.sites[site].speed)
                    for site, server in sorted(
                        (self._sim.names[number], server)
                        for number, server in self._sim.servers[pool].items()
                    )
                    if server.up
                ),
                offered={
                    class_: np.array([rate(door, pool, class_) for door in self._names]) for class_ in CLASSES
                },
                request_bytes=declared.request_kib * KIB,
                response_bytes=declared.response_kib * KIB,
            )
            for pool, declared in sorted(topology.pools.items())
        )
        return Problem(tuple(self._names), self._rtt, self._per_byte, pools)


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
    per_byte = np.array([[0.0 if a == b else 1 / network.bytes_per_s(a, b) for b in names] for a in names])
    return rtt, per_byte
