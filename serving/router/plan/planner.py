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
from serving.router.plan.answer import Answer, Demand
from serving.router.plan.problem import Floats, PoolProblem, Problem
from serving.router.plan.supply import Supply
from serving.router.plan.wait import GRID, marginal_s, response_s
from serving.router.plan.ways import NEAREST, Distances, Known
from serving.router.view import Pool

SMOOTHNESS = 0.01
"""The entropy's weight, as a share of the time of one request alone …"""
NEAR = 0.1
"""… and at most this share of the way to the nearest other site: else requests leave home for nothing."""
LEAST_TAU_S = 1e-5
UPLINK_SHARE = 0.7
"""Most of a site's line that the plan fills: a full line queues."""
MORE = 4
"""Where no prices are found, doors consider so many times as many members."""
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
    known: Known
    """The members that each door considers."""


@dataclass(frozen=True)
class PoolPlan:
    """One pool's part in the plan: enough to tell any door's shares."""

    problem: PoolProblem
    distances: Distances
    tau: float
    known: Known
    """What doors know when the next class comes."""
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
    per_byte, price = problem.s_per_byte, problem.price_s_per_byte
    per_byte = per_byte if price is None else per_byte + price
    serving = {pool.pool: pool for pool in problem.pools if pool.members}
    before = {pool: _comparable(previous.get(pool), one) for pool, one in serving.items()}
    queues = {pool: _Queues.of(one) for pool, one in serving.items()}
    plans = {
        pool: _begin(problem, one, per_byte, queues[pool], before[pool]) for pool, one in serving.items()
    }
    lines = _Lines(problem)
    for class_ in CLASSES:
        for pool in sorted(plans, key=lambda pool: (_bytes(plans[pool].problem), pool)):
            plans[pool] = _solve(problem, plans[pool], queues[pool], class_, lines, before[pool])
    return plans


def _comparable(before: PoolPlan | None, pool: PoolProblem) -> PoolPlan | None:
    """`before` where it has the same members."""
    if before is None or len(before.problem.members) != len(pool.members):
        return None
    same = all(old.site == new.site for old, new in zip(before.problem.members, pool.members, strict=True))
    return before if same else None


@dataclass(frozen=True)
class _Queues:
    """What is reckoned once of a pool's members."""

    capacity: Floats
    """Requests a second, by member."""
    marginal: Floats
    """(members, loads), seconds: `marginal_s`."""
    most_s: float
    """The highest price of one that is not overloaded."""

    @classmethod
    def of(cls, pool: PoolProblem) -> _Queues:
        marginal = marginal_s(pool.members)
        bound = max(pool.balancing.bound(class_) for class_ in CLASSES)
        most = float(marginal[:, : np.searchsorted(GRID, bound) + 1].max())
        return cls(np.array([member.capacity for member in pool.members]), marginal, most)


def _bytes(pool: PoolProblem) -> float:
    return pool.request_bytes + pool.response_bytes


def _begin(
    problem: Problem, pool: PoolProblem, per_byte: Floats, queues: _Queues, before: PoolPlan | None
) -> PoolPlan:
    alone = float(np.mean([member.single_s for member in pool.members]))
    distances = Distances.of(problem, pool, per_byte, queues.most_s, before.distances if before else None)
    near = NEAR * (distances.nearest_s + distances.added_s)
    tau = max(LEAST_TAU_S, min(SMOOTHNESS * alone, near))
    known = before.known if before and np.array_equal(before.distances.home, distances.home) else None
    if known is None or known.is_long(len(problem.sites)):
        offered = np.sum([*pool.offered.values(), np.zeros(len(problem.sites))], axis=0)
        known = distances.nearest(offered, queues.capacity)
    return PoolPlan(pool, distances, tau, known, {})


def _even(queues: _Queues, offered: float) -> Floats:
    """By member, the price did all bear `offered` requests a second in proportion to capacity."""
    share = offered / queues.capacity.sum()
    return queues.marginal[:, np.searchsorted(GRID[:-1], share)]


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


def _solve(
    problem: Problem,
    plan: PoolPlan,
    queues: _Queues,
    class_: Class,
    lines: _Lines,
    before: PoolPlan | None,
) -> PoolPlan:
    """`plan` with one more class."""
    pool = plan.problem
    placed = plan.load if plan.classes else np.zeros(len(pool.members))
    most_away = lines.most(pool)
    offered = pool.offered.get(class_, np.zeros(len(most_away)))
    wall = 100 * (queues.most_s + plan.distances.longest_s)
    overload = SPREAD * float(placed.sum() + offered.sum()) / float(queues.capacity.sum())
    bound = pool.balancing.bound(class_)
    supply = Supply.of(queues.capacity, queues.marginal, placed, bound, overload, wall)
    brings = (offered > _ALMOST_NOTHING) & plan.distances.leads_somewhere()
    brings[[problem.number[site] for site in pool.unmeasured]] = False
    price = before.classes[class_].price if before else None
    doors = np.flatnonzero(brings)
    if not len(doors):
        price = _unless_alike(supply.prices[:, 0], price)
        solved = Solved(price, np.zeros(len(placed)), most_away, plan.known)
        return replace(plan, classes={**plan.classes, class_: solved})
    demand = Demand(plan.distances, doors, offered[doors], most_away[doors], plan.tau)
    best, known = None, plan.known
    if before is not None and price is not None:
        if not plan.distances.alike(before.distances):
            known, _ = demand.with_cheaper(known, demand.ways(known), price)
        best = Answer.of(demand, supply, known, price)
    if best is None or best.excess > WORTH_MOVING * best.cost:
        guess = _even(queues, float(placed.sum() + offered.sum()))
        best = Answer.best(demand, supply, known, guess if price is None else price, price is None)
        count = NEAREST
        while not best.is_exact and count < len(pool.members):
            # Among those that they know, doors find too little room.
            count *= MORE
            known = plan.distances.nearest(offered, queues.capacity, count)
            best = Answer.best(demand, supply, known, guess, is_rough=True)
    away = np.zeros(len(most_away))
    away[doors] = best.away
    lines.take(pool, away)
    solved = Solved(best.price, best.load, most_away, best.known)
    return replace(plan, known=best.known, classes={**plan.classes, class_: solved})


def _unless_alike(price: Floats, known: Floats | None) -> Floats:
    """`known` where it is nearly the same: what nobody pays need not move."""
    alike = known is not None and np.abs(known - price).max() <= WORTH_MOVING * price.mean()
    return known if known is not None and alike else price
