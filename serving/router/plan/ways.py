"""The ways of one pool: what it costs each front door to reach each member, in seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serving.router.plan.problem import Flags, Floats, Ints, PoolProblem, Problem

NEAREST = 24
"""Sites that a door considers at first, where there are more: a thousand doors times a thousand sites is more
than a second's work. Others are added where these are full."""
PREFERENCE = 2.0
"""`prefer-local`: the way to another site counts as if it took this times the longest way and wait more."""


@dataclass(frozen=True)
class Ways:
    """The ways from doors with requests to the sites that may answer them, `k` at each door."""

    offered: Floats
    """Requests a second, by door."""
    site: Ints
    """(doors, k): places of sites among the members."""
    seconds: Floats
    """(doors, k): what the way costs; infinite where there is none."""
    most_away: Floats
    """By door: requests a second that its line to other sites carries."""
    is_home: Flags
    """(doors, k): whether the way stays at the door's own site."""


@dataclass(frozen=True)
class Distances:
    """Of one pool, from every door to every member."""

    seconds: Floats
    """(doors, members): round trip and transfer, the cost of bytes, and the preference for the own site;
    infinite where requests may not go."""
    home: Ints
    """By door, the place of its own site among the members; -1 where it is none."""
    longest_s: float
    """The longest way."""

    @classmethod
    def of(cls, problem: Problem, pool: PoolProblem, wait_s: float) -> Distances:
        """`wait_s`: more than the wait at any member that is not overloaded."""
        columns = np.array([problem.number[member.site] for member in pool.members], np.int64)
        per_byte = problem.s_per_byte[:, columns]
        if problem.price_s_per_byte is not None:
            per_byte = per_byte + problem.price_s_per_byte[:, columns]
        seconds = problem.rtt_s[:, columns] + (pool.request_bytes + pool.response_bytes) * per_byte
        home = np.full(len(problem.sites), -1)
        home[columns] = np.arange(len(columns))
        doors = np.flatnonzero(home >= 0)
        longest = float(seconds.max(initial=0.0))
        if pool.placement == "prefer-local":
            seconds = seconds + PREFERENCE * (longest + wait_s)
        if pool.placement == "local-only":
            seconds = np.full_like(seconds, np.inf)
        seconds[doors, home[doors]] = 0.0
        return cls(seconds, home, longest)

    def nearest(self, doors: Ints, offered: Floats, most_away: Floats) -> Ways:
        """The ways from `doors` to the nearest members, the own one among them."""
        seconds, members = self.seconds[doors], self.seconds.shape[1]
        if members <= 2 * NEAREST:
            site = np.broadcast_to(np.arange(members), seconds.shape)
        else:
            site = np.argpartition(seconds, NEAREST, axis=1)[:, :NEAREST]
        return self._ways(doors, site, offered, most_away)

    def every(self, door: int, offered: float, most_away: float) -> Ways:
        """The ways from one door to every member."""
        doors, site = np.array([door]), np.arange(self.seconds.shape[1])[None]
        return self._ways(doors, site, np.array([offered]), np.array([most_away]))

    def cheaper(self, ways: Ways, doors: Ints, price: Floats, tau: float) -> Ways | None:
        """`ways` with the cheapest members at these prices in place of what is dearest; None: they are the
        cheapest already."""
        if ways.site.shape[1] == self.seconds.shape[1]:
            return None
        cost = ways.seconds + price[ways.site]
        # What a door does not consider is at least as far as the farthest that it does.
        could = ways.seconds.max(axis=1) + price.min() < cost.min(axis=1) - tau
        if not could.any():
            return None
        rows = np.flatnonzero(could)
        whole = self.seconds[doors[rows]] + price
        site = ways.site.copy()
        site[rows] = np.argpartition(whole, NEAREST, axis=1)[:, :NEAREST]
        if (np.sort(site[rows], axis=1) == np.sort(ways.site[rows], axis=1)).all():
            return None
        return self._ways(doors, site, ways.offered, ways.most_away)

    def _ways(self, doors: Ints, site: Ints, offered: Floats, most_away: Floats) -> Ways:
        seconds = np.take_along_axis(self.seconds[doors], site, axis=1)
        return Ways(offered, site, seconds, most_away, site == self.home[doors][:, None])
