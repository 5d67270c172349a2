"""What sites' own lines to all others carry: what leaves a site and comes to it, either way.

A request of a site's own clients that is answered elsewhere goes out and its answer comes in; a guest comes
in and its answer goes out. A site's own come first, and guests get what they leave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serving.router.plan.problem import Flags, Floats, Ints, PoolProblem, Problem

UPLINK_SHARE = 0.7
"""Most of a site's line that the plan fills: a full line queues."""
LEAST_GUESTS = 1e-3
"""Of a line, for guests in any case: doors send a little of what they bring everywhere."""


class Lines:
    """What is left of them, by site, bytes a second; infinite where nothing is declared."""

    def __init__(self, problem: Problem) -> None:
        limit = problem.uplink_bytes_per_s
        whole = np.full(len(problem.sites), np.inf) if limit is None else UPLINK_SHARE * limit
        self._out, self._in = whole, whole.copy()
        self._least = LEAST_GUESTS * whole
        self.thin: Flags = np.isfinite(whole)
        """Sites whose line is declared."""

    def most_away(self, pool: PoolProblem, guests: Floats | None = None) -> Floats:
        """Requests a second of `pool` that may leave each site when it has so many `guests`."""
        return self._most(pool.request_bytes, pool.response_bytes, guests)

    def most_guests(self, pool: PoolProblem, away: Floats) -> Floats:
        """Requests a second of `pool` that others may send each site when so many of its own leave it."""
        size = max(pool.request_bytes, pool.response_bytes)
        least = self._least / size if size else self._least
        return np.maximum(self._most(pool.response_bytes, pool.request_bytes, away), least)

    def take(self, pool: PoolProblem, away: Floats, guests: Floats) -> None:
        """So many requests a second leave each site and come to it."""
        self._out = _less(self._out, away * pool.request_bytes + guests * pool.response_bytes)
        self._in = _less(self._in, away * pool.response_bytes + guests * pool.request_bytes)

    def _most(self, out: float, into: float, others: Floats | None) -> Floats:
        """Of requests of which each sends `out` bytes and brings `into`, beside those whose bytes go the
        other way round."""
        most = np.full(len(self.thin), np.inf)
        for left, size, taken in ((self._out, out, into), (self._in, into, out)):
            if size:
                most = np.minimum(most, (left if others is None else _less(left, others * taken)) / size)
        return most


def _less(left: Floats, taken: Floats) -> Floats:
    return np.maximum(0.0, left - taken)


@dataclass(frozen=True)
class Guests:
    """What doors send to members whose lines carry no more guests: it is settled, and prices move it not."""

    member: Ints
    """These members, by place, in order."""
    sent: Floats
    """(doors, these members): requests a second."""

    @classmethod
    def none(cls, doors: int) -> Guests:
        """All lines carry more."""
        return cls(np.zeros(0, np.int64), np.zeros((doors, 0)))

    def joined(self, member: Ints, sent: Floats) -> Guests:
        """With more members."""
        every = np.concatenate([self.member, member])
        order = np.argsort(every)
        return Guests(every[order], np.concatenate([self.sent, sent], axis=1)[:, order])

    def by_member(self, count: int) -> Floats:
        """What each of `count` members gets."""
        found = np.zeros(count)
        found[self.member] = self.sent.sum(axis=0)
        return found

    def by_door(self) -> Floats:
        """What each door sends."""
        return np.asarray(self.sent.sum(axis=1), np.float64)
