"""What each site takes of one class at a price, where the price is what one more request costs everybody."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serving.router.plan.problem import Floats, Ints
from serving.router.plan.wait import GRID

WALL = 1e-3
"""Over a site's bound the price climbs within this share of its capacity to what nobody pays who has another
choice."""
STEEP = 10.0
"""Beyond the bound of an overloaded pool: how much dearer a site gets over a whole capacity."""
_TILT = 1e-3
"""Added over a whole capacity, in units of the cheapest price: a price that rises has an inverse."""


@dataclass(frozen=True)
class Supply:
    """Prices rise with load along straight lines between knots; arrays are of shape (members, knots)."""

    loads: Floats
    """Requests a second of this class, from 0."""
    prices: Floats
    """Seconds."""
    areas: Floats
    """The integral of loads over prices, from the first knot to each."""
    capacity: Floats
    """Requests a second of all classes, by member."""
    most: Floats
    """By member, how much of this class it takes before the price climbs."""

    @classmethod
    def of(
        cls,
        capacity: Floats,
        marginal: Floats,
        placed: Floats,
        bound: float,
        overload: float,
        wall_s: float,
    ) -> Supply:
        """Of sites of this `capacity`, where `placed` requests a second of classes above are ahead, up to the
        share `bound` of capacity. Where all sites together are offered more, `overload` is the larger share
        that each has to bear. `wall_s` is more than any difference in price that a request would avoid."""
        most = max(bound, overload)
        prices = marginal + _TILT * marginal[:, :1] * GRID
        kept = bound > GRID
        place = min(int(np.searchsorted(GRID, bound)), len(GRID) - 1)
        part = min(1.0, (bound - GRID[place - 1]) / (GRID[place] - GRID[place - 1]))
        at_bound = ((1 - part) * prices[:, place - 1] + part * prices[:, place])[:, None]
        at_most = at_bound * (1 + STEEP * (most - bound))
        over = np.array([WALL, 1.0, 1e6])
        loads = np.concatenate([GRID[kept], [bound, most], most + over])
        walls = at_most + wall_s * np.concatenate([[1.0], 1 + over[1:]])
        whole = np.concatenate([prices[:, kept], at_bound, at_most, walls], axis=1)
        return cls._beyond(capacity[:, None] * loads, whole, placed, capacity, most * capacity)

    @classmethod
    def _beyond(cls, loads: Floats, prices: Floats, placed: Floats, capacity: Floats, most: Floats) -> Supply:
        """Without what is placed already: the price begins where that has brought it."""
        if placed.any():
            start = cls(loads, prices, loads, capacity, most).price(placed)
            most = np.maximum(most - placed, 0.0)
            loads = np.maximum(loads - placed[:, None], 0.0)
            prices = np.maximum(prices, start[:, None])
        return cls(loads, prices, cls._areas(loads, prices), capacity, most)

    @staticmethod
    def _areas(loads: Floats, prices: Floats) -> Floats:
        steps = np.diff(prices, axis=1) * (loads[:, 1:] + loads[:, :-1]) / 2
        return np.concatenate([np.zeros((len(loads), 1)), np.cumsum(steps, axis=1)], axis=1)

    def at(self, price: Floats) -> tuple[Floats, Floats, Floats]:
        """Load, its slope and its integral at a price of each member."""
        rows = np.arange(len(price))
        knot = np.clip((self.prices <= price[:, None]).sum(axis=1) - 1, 0, self.prices.shape[1] - 2)
        x0, x1 = self.prices[rows, knot], self.prices[rows, knot + 1]
        y0, y1 = self.loads[rows, knot], self.loads[rows, knot + 1]
        slope = np.where(price >= x0, (y1 - y0) / np.maximum(x1 - x0, 1e-300), 0.0)
        beyond = np.maximum(price - x0, 0.0)
        return y0 + slope * beyond, slope, self.areas[rows, knot] + beyond * (y0 + slope * beyond / 2)

    def price(self, load: Floats) -> Floats:
        """At which each member supplies this."""
        return self._on_the_line(load)[1]

    def cost(self, load: Floats) -> float:
        """Seconds a second that all members together cost at these loads of each."""
        knot, price = self._on_the_line(load)
        rows = np.arange(len(load))
        x0, y0 = self.loads[rows, knot], self.prices[rows, knot]
        below = x0 * y0 - self.areas[rows, knot]
        return float((below + (load - x0) * (y0 + price) / 2).sum())

    def _on_the_line(self, load: Floats) -> tuple[Ints, Floats]:
        """The knot at or before each member's load, and the price there."""
        rows = np.arange(len(load))
        knot = np.clip((self.loads <= load[:, None]).sum(axis=1) - 1, 0, self.loads.shape[1] - 2)
        x0, x1 = self.loads[rows, knot], self.loads[rows, knot + 1]
        y0, y1 = self.prices[rows, knot], self.prices[rows, knot + 1]
        return knot, y0 + np.where(x1 > x0, (y1 - y0) / np.maximum(x1 - x0, 1e-300), 0.0) * (load - x0)
