"""What doors do at given prices, and how far that is from what sites supply at them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy

from serving.router.plan.problem import Flags, Floats
from serving.router.plan.supply import Supply
from serving.router.plan.ways import Ways

EXACT = 1e-4
"""Prices are right when what sites are asked for is what they supply, within this share of all that is
offered …"""
EXACT_EACH = 2e-4
"""… and no site is asked for more than it should take by this share of its capacity, beside what
`supply.WALL` lets it."""
LEAST = -1e100
"""The logarithm of nothing, as far as arithmetic is concerned."""


@dataclass(frozen=True)
class Split:
    """What doors do at given prices."""

    sent: Floats
    """By way, requests a second."""
    cost: float
    """What that costs all doors together, the entropy included, in seconds a second."""
    capped: Flags
    """Doors whose line is full."""


def split(ways: Ways, price: Floats, tau: float) -> Split:
    """Each door's best split at these prices of its members."""
    power = np.maximum((ways.seconds + price[ways.site]) / -tau, LEAST)
    top = np.maximum.reduceat(power, ways.first)
    weight = np.exp(power - top[ways.door])
    total = ways.each(weight)
    sent = weight * (ways.offered / total)[ways.door]
    costs = -tau * ways.offered * (top + np.log(total))
    if not (ways.most_away < ways.offered).any():
        return Split(sent, float(costs.sum()), np.zeros(len(total), bool))
    away = ways.each(np.where(ways.is_home, 0.0, sent))
    capped = (away > ways.most_away) & (ways.each(ways.is_home.astype(np.float64)) > 0)
    held, held_costs = _held(ways, power, tau)
    sent = np.where(capped[ways.door], held, sent)
    return Split(sent, float(np.where(capped, held_costs, costs).sum()), capped)


def _held(ways: Ways, power: Floats, tau: float) -> tuple[Floats, Floats]:
    """What doors send, and what it costs, were all lines full of what does not stay at home."""
    at_home = ways.each(np.where(ways.is_home, power, 0.0))
    others = np.where(ways.is_home, LEAST, power)
    top = np.maximum.reduceat(others, ways.first)
    weight = np.where(ways.is_home, 0.0, np.exp(others - top[ways.door]))
    total = np.maximum(ways.each(weight), 1.0)
    away = np.minimum(ways.most_away / ways.offered, 1.0)
    by_way = np.where(ways.is_home, (1 - away)[ways.door], weight * (away / total)[ways.door])
    mixing = xlogy(away, away) + xlogy(1 - away, 1 - away)
    mixing -= away * (top + np.log(total)) + (1 - away) * at_home
    return ways.offered[ways.door] * by_way, ways.offered * tau * mixing


@dataclass(frozen=True)
class Balance:
    """The convex function of prices whose least is at the right ones."""

    value: float
    price: Floats
    """By member."""
    supplied: Floats
    """By member."""
    gradient: Floats
    """That less what they are asked for."""
    slope: Floats
    """Of the supply."""
    split: Split

    @classmethod
    def of(cls, ways: Ways, supply: Supply, tau: float, price: Floats) -> Balance:
        """At these prices."""
        supplied, slope, area = supply.at(price)
        done = split(ways, price, tau)
        asked = ways.asked(done.sent, len(price))
        return cls(float(area.sum()) - done.cost, price, supplied, supplied - asked, slope, done)

    def is_right(self, ways: Ways, supply: Supply, slack: float) -> bool:
        """Whether sites supply what they are asked for, or no split costs less by more than the share
        `slack`, and no small one is asked for more than it should take."""
        asked = self.supplied - self.gradient
        over = asked - np.maximum(self.supplied, supply.most)
        if (over > EXACT_EACH * supply.capacity).any():
            return False
        if np.abs(self.gradient).sum() <= EXACT * ways.offered.sum():
            return True
        if not slack:
            return False
        cost, excess = costs(ways, supply, self.split.sent, asked, self.price)
        return excess <= slack * cost


def costs(ways: Ways, supply: Supply, sent: Floats, load: Floats, price: Floats) -> tuple[float, float]:
    """Seconds a second that a split costs, and no split costs less by more than the second (the duality gap).

    `load`: what is `sent`, by member; `price`: at which doors send it.
    """
    at_sites, dual = supply.cost(load), float(supply.at(price)[2].sum())
    return float(sent @ ways.seconds) + at_sites, at_sites + dual - float(load @ price)
