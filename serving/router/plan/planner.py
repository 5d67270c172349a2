"""From the problem to prices: classes one after the other, the most urgent first, pool by pool.

A class sees only what classes above it have taken, as their requests are served first: what is below does
not keep it waiting. That orders the objective: first `live` waits least, then `interactive` with what is
left, then `batch`. Pools share nothing but the lines between sites: those whose requests are small go first,
because a byte of theirs saves most time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from serving.fleet import CLASSES, Class
from serving.router.plan.problem import Floats, Ints, PoolProblem, Problem
from serving.router.plan.solver import Split, solve, split
from serving.router.plan.supply import Supply
from serving.router.plan.wait import marginal_s, response_s
from serving.router.plan.ways import Distances, Ways
from serving.router.view import Pool

SMOOTHNESS = 0.01
"""The entropy's weight, as a share of the time of one request alone …"""
NEAR = 0.1
"""… and at most this share of the way to the nearest other site: else requests leave home for nothing."""
LEAST_TAU_S = 1e-5
UPLINK_SHARE = 0.7
"""Most of a site's line that the plan fills: a full line queues."""
REFINEMENTS = 4
SPREAD = 1.02
"""An overloaded pool's sites bear up to so much more than in proportion to capacity, where that is nearer."""
WORTH_MOVING = 0.01
"""Prices, and so shares, stay as they were unless others make all requests cost less by this share."""
MOST_KNOWN = 0.99
"""Share of capacity beyond which nobody can say how long a request takes: it depends on how long it lasts."""
_ALMOST_NOTHING = 1e-6
"""Requests a second, below which a door has none."""


@dataclass(frozen=True)
class Solved:
    """One class of one pool."""

    price: Floats
    """By member: what one more request of this class costs everybody there, seconds."""
    load: Floats
    """By member: requests a second of this class."""
    most_away: Floats
    """By door: requests a second of this pool that its line carried when this class came."""


@dataclass(frozen=True)
class PoolPlan:
    """One pool's part in the plan: enough to tell any door's shares."""

    problem: PoolProblem
    distances: Distances
    tau: float
    classes: Mapping[Class, Solved]

    @property
    def load(self) -> Floats:
        """Requests a second of all classes, by member."""
        total: Floats = np.sum([solved.load for solved in self.classes.values()], axis=0)
        return total

    @property
    def response_s(self) -> Floats:
        """By member, mean seconds from a request's arrival there to its answer, at these loads."""
        capacity = np.array([member.capacity for member in self.problem.members])
        share = np.minimum(self.load / capacity, MOST_KNOWN)
        return response_s(self.problem.members, share[:, None])[:, 0]


def solve_all(problem: Problem, previous: Mapping[Pool, PoolPlan]) -> dict[Pool, PoolPlan]:
    """Every pool that has members. `previous` tells where to begin."""
    plans = {pool.pool: _begin(problem, pool) for pool in problem.pools if pool.members}
    lines = _Lines(problem)
    small_first = sorted(plans, key=lambda pool: (_bytes(plans[pool].problem), pool))
    for class_ in CLASSES:
        for pool in small_first:
            before = previous.get(pool)
            start = before.classes[class_].price if before else None
            solved = _solve(problem, plans[pool], class_, lines, start)
            plans[pool] = replace(plans[pool], classes={**plans[pool].classes, class_: solved})
    return plans


def _bytes(pool: PoolProblem) -> float:
    return pool.request_bytes + pool.response_bytes


def _begin(problem: Problem, pool: PoolProblem) -> PoolPlan:
    alone = np.array([member.single_s for member in pool.members])
    marginal = marginal_s(pool.members)
    distances = Distances.of(problem, pool, float(marginal.max()))
    others = distances.seconds[np.isfinite(distances.seconds) & (distances.seconds > 0)]
    near = NEAR * float(others.min()) if len(others) else np.inf
    tau = max(LEAST_TAU_S, min(SMOOTHNESS * float(alone.mean()), near))
    return PoolPlan(pool, distances, tau, {})


class _Lines:
    """What sites' own ways to the others still carry."""

    def __init__(self, problem: Problem) -> None:
        limit = problem.uplink_bytes_per_s
        self._left = np.full(len(problem.sites), np.inf) if limit is None else UPLINK_SHARE * limit

    def most(self, pool: PoolProblem) -> Floats:
        """Requests a second of `pool` that may leave each door."""
        per_request = max(pool.request_bytes, pool.response_bytes)
        return self._left / per_request if per_request else np.full(len(self._left), np.inf)

    def take(self, pool: PoolProblem, away: Floats) -> None:
        """So many requests a second leave each door."""
        self._left = np.maximum(0.0, self._left - away * max(pool.request_bytes, pool.response_bytes))


def _solve(problem: Problem, plan: PoolPlan, class_: Class, lines: _Lines, price: Floats | None) -> Solved:
    pool = plan.problem
    members = pool.members
    placed = plan.load if plan.classes else np.zeros(len(members))
    most_away = lines.most(pool)
    offered = pool.offered.get(class_, np.zeros(len(most_away)))
    marginal = marginal_s(members)
    wall = 100 * (float(marginal.max()) + plan.distances.longest_s)
    capacity = sum(member.capacity for member in members)
    overload = SPREAD * float(placed.sum() + offered.sum()) / capacity
    supply = Supply.of(members, marginal, placed, pool.balancing.bound(class_), overload, wall)
    leaves = np.isfinite(plan.distances.seconds).any(axis=1)
    leaves[[problem.number[site] for site in pool.unmeasured]] = False
    known = price if price is not None and len(price) == len(members) else None
    doors = np.flatnonzero((offered > _ALMOST_NOTHING) & leaves)
    if not len(doors):
        return Solved(_unless_alike(supply.prices[:, 0], known), np.zeros(len(members)), most_away)
    ways = plan.distances.nearest(doors, offered[doors], most_away[doors])
    best = None
    if known is not None:
        ways = plan.distances.cheaper(ways, doors, known, plan.tau) or ways
        best = _Answer.of(ways, supply, split(ways, known, plan.tau), known)
    if best is None or best.excess > WORTH_MOVING * best.cost:
        ways, best = _best(plan, ways, doors, supply, known)
    away = np.zeros(len(most_away))
    away[doors] = (best.split.sent * ~ways.is_home).sum(axis=1)
    lines.take(pool, away)
    return Solved(best.price, best.load, most_away)


def _unless_alike(price: Floats, known: Floats | None) -> Floats:
    """`known` where it is nearly the same: what nobody pays need not move."""
    alike = known is not None and np.abs(known - price).max() <= WORTH_MOVING * price.mean()
    return known if known is not None and alike else price


def _best(
    plan: PoolPlan, ways: Ways, doors: Ints, supply: Supply, price: Floats | None
) -> tuple[Ways, _Answer]:
    for _ in range(REFINEMENTS):
        best = _Answer.of(ways, supply, *solve(ways, supply, plan.tau, price))
        refined = plan.distances.cheaper(ways, doors, best.price, plan.tau)
        if refined is None:
            break
        ways, price = refined, best.price
    return ways, best


@dataclass(frozen=True)
class _Answer:
    """A split, what it costs, and the prices behind it."""

    split: Split
    price: Floats
    load: Floats
    cost: float
    """Seconds a second."""
    excess: float
    """No split costs less than this one by more (the duality gap): 0 for the best."""

    @classmethod
    def of(cls, ways: Ways, supply: Supply, done: Split, price: Floats) -> _Answer:
        load: Floats = np.bincount(ways.site.ravel(), done.sent.ravel(), len(price)).astype(np.float64)
        on_the_way = (done.sent * np.where(done.sent > 0, ways.seconds, 0.0)).sum()
        at_sites, dual = supply.cost(load), float(supply.at(price)[2].sum())
        excess = at_sites + dual - float(load @ price)
        return cls(done, price, load, float(on_the_way) + at_sites, excess)
