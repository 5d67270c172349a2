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
from serving.router.plan.answer import WORTH_MOVING, Answer, Demand, answer
from serving.router.plan.lines import Guests, Lines
from serving.router.plan.problem import Flags, Floats, PoolProblem, Problem
from serving.router.plan.supply import Supply
from serving.router.plan.wait import GRID, marginal_s, response_s
from serving.router.plan.ways import Distances, Known
from serving.router.view import Pool

SMOOTHNESS = 0.01
"""The entropy's weight, as a share of the time of one request alone …"""
NEAR = 0.1
"""… and at most this share of the way to the nearest other site: else requests leave home for nothing."""
LEAST_TAU_S = 1e-5
SPREAD = 1.02
"""An overloaded pool's sites bear up to so much more than in proportion to capacity, where that is nearer."""
NEARLY_BEST = 1e-3
"""Of plans that follow others: where they move, they come this near to the best. What is measured differs by
more from one second to the next."""
MOST_KNOWN = 0.99
"""Share of capacity beyond which nobody can say how long a request takes: it depends on how long it lasts."""
TOO_FAR = 30.0
"""A member whose line carries no more guests seems so many times as far as anything that may be avoided: as
dear as one that is offered so many times its capacity."""
ROUNDS = 4
"""So often lines are looked for that guests overfill; what comes to any thin one is settled then."""
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
    """By door: requests a second of this pool that its line carried when this class came, beside guests."""
    known: Known
    """The members that each door considers."""
    distances: Distances
    """Members whose lines carry no more guests are far from all others."""
    guests: Guests
    """What comes to these."""
    earlier: tuple[Floats, ...] = ()
    """Prices before more of these were found, round by round."""


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
    def carries_more(self) -> Flags:
        """By member, whether its line carries more guests of any class."""
        more = np.ones(len(self.problem.members), bool)
        for solved in self.classes.values():
            more[solved.guests.member] = False
        return more

    @property
    def has_thin_lines(self) -> bool:
        """Whether any site's line is declared and bounds what may leave it."""
        return any(bool(np.isfinite(solved.most_away).any()) for solved in self.classes.values())

    @property
    def used(self) -> Floats:
        """By member, the load over capacity, as far as one can say how long a request takes."""
        capacity = np.array([member.capacity for member in self.problem.members])
        return np.asarray(np.minimum(self.load / capacity, MOST_KNOWN), np.float64)

    @property
    def response_s(self) -> Floats:
        """By member, mean seconds from a request's arrival there to its answer, at these loads."""
        return response_s(self.problem.members, self.used[:, None])[:, 0]


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
    lines = Lines(problem)
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


def _solve(
    problem: Problem,
    plan: PoolPlan,
    queues: _Queues,
    class_: Class,
    lines: Lines,
    before: PoolPlan | None,
) -> PoolPlan:
    """`plan` with one more class."""
    pool, sites = plan.problem, len(problem.sites)
    placed = plan.load if plan.classes else np.zeros(len(pool.members))
    offered = pool.offered.get(class_, np.zeros(sites))
    brings = (offered > _ALMOST_NOTHING) & plan.distances.leads_somewhere()
    brings[[problem.number[site] for site in pool.unmeasured]] = False
    doors = np.flatnonzero(brings)
    old = before.classes[class_] if before else None
    guests, distances, known = Guests.none(sites), plan.distances, plan.known
    supply = _supply(plan, queues, class_, placed, offered, guests)
    if not len(doors):
        price = _unless_alike(supply.prices[:, 0], old.price if old else None)
        solved = Solved(price, np.zeros(len(placed)), lines.most_away(pool), known, distances, guests)
        return replace(plan, classes={**plan.classes, class_: solved})
    starts, prices = [*old.earlier, old.price] if old else [], list[Floats]()
    guess = _even(queues, float(placed.sum() + offered.sum()))
    while True:
        settled, coming = guests.by_door(), guests.by_member(len(placed))
        most_away = lines.most_away(pool, distances.by_site(coming))
        rest = np.maximum(offered - settled, _ALMOST_NOTHING)
        carried = np.maximum(0.0, most_away - settled)[doors]
        demand = Demand(distances, doors, rest[doors], carried, plan.tau, NEARLY_BEST if old else 0.0)
        start = starts[len(prices)] if len(prices) < len(starts) else None
        if start is None and prices:
            start = prices[-1]
        # What is known has been looked for at these prices, unless the ways were others.
        is_new = bool(prices) or before is None or not distances.alike(before.distances)
        best = answer(demand, supply, known, start, is_new, guess, offered)
        known, prices = best.known, [*prices, best.price]
        settled[doors] += best.away
        more = _overfull(lines, pool, demand, best, guests, settled, len(prices) >= ROUNDS)
        if more is None:
            break
        guests, distances = more, distances.without(more.member, TOO_FAR * _wall_s(plan, queues))
        supply = _supply(plan, queues, class_, placed, offered, guests)
    lines.take(pool, settled, distances.by_site(best.guests + coming))
    earlier = tuple(prices[:-1])
    solved = Solved(best.price, best.load + coming, most_away, known, distances, guests, earlier)
    return replace(plan, known=known, classes={**plan.classes, class_: solved})


def _wall_s(plan: PoolPlan, queues: _Queues) -> float:
    """More than any difference in price that a request would avoid."""
    return 100 * (queues.most_s + plan.distances.longest_s)


def _supply(
    plan: PoolPlan, queues: _Queues, class_: Class, placed: Floats, offered: Floats, guests: Guests
) -> Supply:
    """What members take beside those of urgent classes and `guests`."""
    total, capacity = float(placed.sum() + offered.sum()), queues.capacity
    if len(guests.member):
        placed = placed + guests.by_member(len(placed))
        # What their lines keep from those that are full, the others have to bear.
        most = placed + offered[plan.distances.columns]
        capacity = capacity.copy()
        capacity[guests.member] = np.minimum(capacity, most)[guests.member]
    overload = SPREAD * total / float(capacity.sum())
    bound = plan.problem.balancing.bound(class_)
    return Supply.of(queues.capacity, queues.marginal, placed, bound, overload, _wall_s(plan, queues))


def _overfull(
    lines: Lines,
    pool: PoolProblem,
    demand: Demand,
    best: Answer,
    guests: Guests,
    away: Floats,
    is_last: bool,
) -> Guests | None:
    """`guests` with those of members whose lines more would overfill, brought down to what these carry;
    None: there are none. `away`: what leaves each site. `is_last`: other thin lines may not wait for it."""
    columns = demand.distances.columns
    thin = lines.thin[columns]
    thin[guests.member] = False
    if not thin.any():
        return None
    most = lines.most_guests(pool, away)[columns]
    over = thin & (best.guests > most)
    if not over.any():
        return None
    member = np.flatnonzero(thin if is_last else over)
    ways = best.ways
    sent = np.zeros((len(away), len(columns)))
    sent[demand.doors[ways.door], ways.site] = np.where(ways.is_home, 0.0, best.split.sent)
    share = np.minimum(1.0, most[member] / np.maximum(best.guests[member], _ALMOST_NOTHING))
    return guests.joined(member, sent[:, member] * share)


def _unless_alike(price: Floats, known: Floats | None) -> Floats:
    """`known` where it is nearly the same: what nobody pays need not move."""
    alike = known is not None and np.abs(known - price).max() <= WORTH_MOVING * price.mean()
    return known if known is not None and alike else price
