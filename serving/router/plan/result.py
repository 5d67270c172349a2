"""The plan itself: shares by front door, pool and class, and why they are what they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from serving.fleet import CLASSES, Class
from serving.router.options import Choice, Threshold
from serving.router.plan.balance import split
from serving.router.plan.choice import choice
from serving.router.plan.explanation import Explanation, explain
from serving.router.plan.planner import PoolPlan, solve_all
from serving.router.plan.problem import Floats, Ints, PoolProblem, Problem
from serving.router.plan.settling import Row, probed, settle, tried
from serving.router.plan.thresholds import threshold
from serving.router.plan.ways import Known
from serving.router.view import Pool

Key = tuple[str, Pool, Class]
"""A front door, a pool, a class."""
SPARE = 8.0
"""By how much less narrowly than by `tau` doors choose where to send what is too much at home."""
LEAST_SHARE = 1e-4
"""Envoy's weights are whole numbers, and 10,000 are all."""
LEAST_SPARE = 0.01
"""Of what goes elsewhere: a thousand sites need not all be known to each other."""
ALL_KNOWN = 48
"""Up to so many sites, every one that may be asked keeps at least a little of it."""
LEAST_RATE = 1e-6
"""Requests a second of a door that has none: it has shares for the first that comes."""


@dataclass(frozen=True)
class Plan:
    """What `plan` has computed."""

    problem: Problem
    pools: Mapping[Pool, PoolPlan]
    """Those with members of which enough is known."""
    shares: Mapping[Key, Row] = field(default_factory=dict)
    """Of the doors that were asked for: each site's share, by name; they sum to 1, and sites that may not
    answer are not there. A door without a site that may answer has no row."""

    def thresholds(self, door: str) -> dict[str, Threshold]:
        """Of one front door, by pool (`<kind>.<name>`): `FleetView.thresholds`."""
        number = self.problem.number[door]
        found = {
            f"{pool.kind}.{pool.name}": threshold(planned, number) for pool, planned in self.pools.items()
        }
        return {pool: known for pool, known in found.items() if known}

    def choices(self, door: str, under_way: Mapping[str, Mapping[str, float]]) -> dict[str, Choice]:
        """Of one front door, by pool (`<kind>.<name>`): `FleetView.choices`. `under_way`: likewise, what
        `choice` needs to know."""
        number = self.problem.number[door]
        found = {
            pool.key: choice(planned, door, number, under_way.get(pool.key, {}))
            for pool, planned in self.pools.items()
        }
        return {pool: known for pool, known in found.items() if known}

    def explain(self, door: str, pool: Pool) -> Explanation:
        """Why `door`'s shares of `pool` are what they are. Raises `UsageError` where either is not known."""
        return explain(self.problem, self.pools.get(pool), self.shares, door, pool)

    def of_door(self, door: str) -> dict[tuple[Pool, Class], Row]:
        """The rows of one front door: `FleetView.plan`."""
        return {(pool, class_): row for (where, pool, class_), row in self.shares.items() if where == door}


def plan(problem: Problem, previous: Plan | None = None, doors: Iterable[str] | None = None) -> Plan:
    """The shares that make all requests together wait least, on the way there from `previous`.

    `doors`: those whose shares are wanted, by default all; the prices behind them are the same in any case.
    """
    pools = solve_all(problem, previous.pools if previous else {})
    before: Mapping[Key, Row] = previous.shares if previous else {}
    shares: dict[Key, Row] = {}
    for door in problem.sites if doors is None else doors:
        for pool in problem.pools:
            stale = {member.site for member in pool.members if member.stale}
            for class_ in CLASSES:
                key = (door, pool.pool, class_)
                if target := _target(problem, pools.get(pool.pool), pool, door, class_):
                    shares[key] = settle(target, before.get(key), stale)
    return Plan(problem, pools, shares)


def resumed(problem: Problem, door: str, rows: Mapping[tuple[Pool, Class], Row]) -> Plan:
    """What a front door that starts again knows of the plan before: its own rows."""
    return Plan(problem, {}, {(door, pool, class_): row for (pool, class_), row in rows.items()})


def _target(problem: Problem, planned: PoolPlan | None, pool: PoolProblem, door: str, class_: Class) -> Row:
    """What the prices say to one door."""
    if door in pool.unmeasured:
        return {door: 1.0}
    number = problem.number[door]
    if planned is None or not planned.distances.leads_somewhere()[number]:
        return {}
    solved, offered = planned.classes[class_], pool.offered.get(class_)
    rate = max(float(offered[number]), LEAST_RATE) if offered is not None else LEAST_RATE
    # A door that brings something is planned with those that it knows; any other may look around.
    known = solved.known.of(number) if rate > LEAST_RATE else Known.all(len(pool.members), number)
    settled = solved.guests.sent[[number]]
    rest = np.maximum(rate - settled.sum(axis=1), LEAST_RATE)
    most_away = np.maximum(0.0, solved.most_away[[number]] - settled.sum(axis=1))
    ways = solved.distances.ways(known, np.array([number]), rest, most_away)
    site, share = ways.site, split(ways, solved.price, planned.tau).sent / rate
    if settled.any():
        share = ways.asked(share, len(pool.members))
        share[solved.guests.member] += settled[0] / rate
        site = np.arange(len(share))
    row = _named(pool, site, share, LEAST_SHARE)
    if pool.placement != "local-only":
        row = tried(row, pool.untried - {door})
    elsewhere = ways.away()
    if elsewhere is None:
        return row
    # Whoever goes elsewhere because home is full just now, or to keep a way known, chooses less narrowly.
    spare = split(elsewhere, solved.price, SPARE * planned.tau).sent / rate
    least = LEAST_SPARE * spare.sum()
    if len(pool.members) <= ALL_KNOWN:
        spare = np.where(spare > 0, np.maximum(spare, 2 * least), 0.0)
    return probed(row, _named(pool, elsewhere.site, spare, least))


def _named(pool: PoolProblem, sites: Ints, shares: Floats, least: float) -> dict[str, float]:
    """Those of at least `least`, which is not 0, by site; they sum to 1, or there is none."""
    kept = np.flatnonzero(shares > least)
    total = shares[kept].sum()
    return {pool.members[sites[number]].site: float(shares[number] / total) for number in kept}
