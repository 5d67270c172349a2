"""The best split of one class of one pool, from the prices of a second before or from none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serving.router.plan.balance import Split, costs, split
from serving.router.plan.path import followed
from serving.router.plan.problem import Floats, Ints
from serving.router.plan.solver import solve
from serving.router.plan.supply import Supply
from serving.router.plan.ways import NEAREST, Cheaper, Distances, Known, Ways

ROUGH = 16.0
"""Where nothing is known of prices, doors look for cheaper members first at so many times `tau`."""
COARSEST = 0.25
"""Prices are looked for from a `tau` of this share of what they have to bridge: the longest way, or by how
much members are cheaper that doors have not known."""
NEARBY = 64.0
"""Where this is at most so many times `tau`, what is sent is carried on."""
REFINEMENTS = 10
"""How often doors look for cheaper members at most."""

MORE = 4
"""Where no prices are found, doors consider so many times as many members."""
WORTH_MOVING = 0.01
"""Prices, and so shares, stay as they were unless others make all requests cost less by this share."""


@dataclass(frozen=True)
class Demand:
    """What doors bring of one class, and where it may go."""

    distances: Distances
    doors: Ints
    """Those that bring something, in order."""
    offered: Floats
    """Requests a second, by door of these."""
    most_away: Floats
    """Likewise, what their lines to other sites carry."""
    tau: float
    slack: float
    """What is found need not be better than that no split costs less by more than this share."""

    def ways(self, known: Known) -> Ways:
        """To the members that doors know."""
        return self.distances.ways(known, self.doors, self.offered, self.most_away)

    def with_cheaper(self, known: Known, ways: Ways, price: Floats) -> Cheaper:
        """As `Distances.with_cheaper`."""
        return self.distances.with_cheaper(known, ways, self.doors, price, self.tau)


@dataclass(frozen=True)
class Answer:
    """A split, what it costs, and the prices behind it."""

    known: Known
    """The members among which doors choose …"""
    ways: Ways
    """… and the ways there."""
    split: Split
    price: Floats
    load: Floats
    cost: float
    """Seconds a second."""
    excess: float
    """No split costs less than this one by more (the duality gap): 0 for the best."""
    away: Floats
    """Requests a second that leave their door's site, by door."""
    guests: Floats
    """Requests a second from other doors, by member."""
    is_right: bool
    """Whether prices were found that balance."""

    @classmethod
    def of(cls, demand: Demand, supply: Supply, known: Known, ways: Ways, price: Floats) -> Answer:
        """What doors do at these prices."""
        return cls._of(ways, supply, known, split(ways, price, demand.tau), price, True)

    @classmethod
    def _of(
        cls, ways: Ways, supply: Supply, known: Known, done: Split, price: Floats, is_right: bool
    ) -> Answer:
        load = ways.asked(done.sent, len(price))
        away = np.where(ways.is_home, 0.0, done.sent)
        cost, excess = costs(ways, supply, done.sent, load, price)
        return cls(
            known=known,
            ways=ways,
            split=done,
            price=price,
            load=load,
            cost=cost,
            excess=excess,
            away=ways.each(away),
            guests=ways.asked(away, len(price)),
            is_right=is_right,
        )

    @classmethod
    def best(
        cls, demand: Demand, supply: Supply, known: Known, ways: Ways, price: Floats, is_rough: bool
    ) -> Answer:
        """The best among all members, from these prices; `is_rough`: they are a guess."""
        tau = demand.tau
        sent, width = None, tau
        if is_rough:
            width = ROUGH * tau
            farthest = COARSEST * float(ways.seconds.max())
            price = followed(ways, supply, width, demand.slack, price, None, farthest)
            cheaper = demand.with_cheaper(known, ways, price)
            known = cheaper.known
            ways, width = demand.ways(known), max(width, COARSEST * cheaper.most_s)
        for _ in range(REFINEMENTS):
            done, price, is_right = solve(ways, supply, tau, demand.slack, price, sent, width)
            answer = cls._of(ways, supply, known, done, price, is_right)
            cheaper = demand.with_cheaper(known, ways, price)
            is_little = cheaper.most_s < NEARBY * tau
            if cheaper.known is known or (is_little and cheaper.all_s <= demand.slack * answer.cost):
                break
            known, last, ways = cheaper.known, ways, demand.ways(cheaper.known)
            sent, width = None, COARSEST * cheaper.most_s
            if is_little:
                sent, width = ways.carried(last, done.sent), tau
        return answer


def answer(
    demand: Demand,
    supply: Supply,
    known: Known,
    start: Floats | None,
    is_new: bool,
    guess: Floats,
    offered: Floats,
) -> Answer:
    """The best split, from prices that may do or from a guess. `is_new`: other members than doors know may be
    cheaper at these prices."""
    ways = demand.ways(known)
    if start is not None:
        best = Answer.of(demand, supply, known, ways, start)
        if is_new and best.excess <= WORTH_MOVING * best.cost:
            more = demand.with_cheaper(known, ways, start).known
            if more is not known:
                known, ways = more, demand.ways(more)
                best = Answer.of(demand, supply, known, ways, start)
        if best.excess <= WORTH_MOVING * best.cost:
            return best
    best = Answer.best(demand, supply, known, ways, guess if start is None else start, start is None)
    count = NEAREST
    while not best.is_right and count < len(guess):
        # Among those that they know, doors find too little room.
        count *= MORE
        known = demand.distances.nearest(offered, supply.capacity, count)
        best = Answer.best(demand, supply, known, demand.ways(known), guess, is_rough=True)
    return best
