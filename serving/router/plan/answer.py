"""The best split of one class of one pool, from the prices of a second before or from none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serving.router.plan.balance import Split, split
from serving.router.plan.path import followed
from serving.router.plan.problem import Floats, Ints
from serving.router.plan.solver import solve
from serving.router.plan.supply import Supply
from serving.router.plan.ways import Distances, Known, Ways

ROUGH = 16.0
"""Where nothing is known of prices, doors look for cheaper members first at so many times `tau`."""
COARSEST = 0.25
"""Prices are looked for from a `tau` of this share of what they have to bridge: the longest way, or by how
much members are cheaper that doors have not known."""
NEARBY = 64.0
"""Where this is at most so many times `tau`, what is sent is carried on."""
REFINEMENTS = 10
"""How often doors look for cheaper members at most."""


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

    def ways(self, known: Known) -> Ways:
        """To the members that doors know."""
        return self.distances.ways(known, self.doors, self.offered, self.most_away)

    def with_cheaper(self, known: Known, ways: Ways, price: Floats) -> tuple[Known, float]:
        """As `Distances.with_cheaper`."""
        return self.distances.with_cheaper(known, ways, self.doors, price, self.tau)


@dataclass(frozen=True)
class Answer:
    """A split, what it costs, and the prices behind it."""

    known: Known
    """The members among which doors choose."""
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
    is_exact: bool
    """Whether prices were found that balance."""

    @classmethod
    def of(cls, demand: Demand, supply: Supply, known: Known, price: Floats) -> Answer:
        """What doors do at these prices."""
        ways = demand.ways(known)
        return cls._of(ways, supply, known, split(ways, price, demand.tau), price, True)

    @classmethod
    def _of(
        cls, ways: Ways, supply: Supply, known: Known, done: Split, price: Floats, is_exact: bool
    ) -> Answer:
        load = ways.asked(done.sent, len(price))
        away = np.where(ways.is_home, 0.0, done.sent)
        at_sites, dual = supply.cost(load), float(supply.at(price)[2].sum())
        return cls(
            known=known,
            split=done,
            price=price,
            load=load,
            cost=float(done.sent @ ways.seconds) + at_sites,
            excess=at_sites + dual - float(load @ price),
            away=ways.each(away),
            guests=ways.asked(away, len(price)),
            is_exact=is_exact,
        )

    @classmethod
    def best(cls, demand: Demand, supply: Supply, known: Known, price: Floats, is_rough: bool) -> Answer:
        """The best among all members, from these prices; `is_rough`: they are a guess."""
        tau, ways = demand.tau, demand.ways(known)
        sent, width = None, tau
        if is_rough:
            width = ROUGH * tau
            price = followed(ways, supply, width, price, None, COARSEST * float(ways.seconds.max()))
            known, gain = demand.with_cheaper(known, ways, price)
            ways, width = demand.ways(known), max(width, COARSEST * gain)
        for _ in range(REFINEMENTS):
            done, price, is_exact = solve(ways, supply, tau, price, sent, width)
            answer = cls._of(ways, supply, known, done, price, is_exact)
            more, gain = demand.with_cheaper(known, ways, price)
            if more is known:
                break
            known, last, ways = more, ways, demand.ways(more)
            sent, width = None, COARSEST * gain
            if gain < NEARBY * tau:
                sent, width = ways.carried(last, done.sent), tau
        return answer
