"""What sites' own lines to all others carry: what leaves a site and comes to it, either way.

A request of a site's own clients that is answered elsewhere goes out and its answer comes in; a guest comes
in and its answer goes out. A site's own come first, and guests get what they leave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serving.router.plan.problem import Flags, Floats, Ints, PoolProblem, Problem

UPLINK_SHARE = 0.7
"""Of a site's line, what the plan may fill: a full line queues."""
FULL_SHARE = 0.9
"""The same where all else is as full: servers that are fuller queue longer."""
LEAST_GUESTS = 1e-3
"""Of a line, for guests in any case: doors send a little of what they bring everywhere."""


class Lines:
    """What is left of them, by site, bytes a second; infinite where nothing is declared."""

    def __init__(self, problem: Problem) -> None:
        limit = problem.uplink_bytes_per_s
        self._whole = np.full(len(problem.sites), np.inf) if limit is None else limit
        self._number = problem.number
        self._out, self._in = np.zeros(len(problem.sites)), np.zeros(len(problem.sites))
        self.thin: Flags = np.isfinite(self._whole)
        """Sites whose line is declared."""

    def share(self, pool: PoolProblem) -> float:
        """Of each line, what may be full of this pool and those before it: it has room left twice as much as
        lines and sites without one where they bear alike what the others cannot do for themselves."""
        size = max(pool.request_bytes, pool.response_bytes)
        columns = [self._number[member.site] for member in pool.members]
        thin = self.thin[columns]
        if not size or not thin.any():
            return UPLINK_SHARE
        capacity = np.array([member.capacity for member in pool.members])
        offered = np.sum([*pool.offered.values(), np.zeros(len(self.thin))], axis=0)
        own = np.where(thin, np.minimum(offered[columns], capacity), 0.0)
        room = np.minimum(capacity - own, self._whole[columns] / size).sum()
        full = (offered.sum() - own.sum()) / room if room > 0 else np.inf
        return float(np.clip(1 - 2 * (1 - full), UPLINK_SHARE, FULL_SHARE))

    def most_away(self, pool: PoolProblem, guests: Floats | None = None) -> Floats:
        """Requests a second of `pool` that may leave each site when it has so many `guests`."""
        return self._most(pool, pool.request_bytes, pool.response_bytes, guests)

    def most_guests(self, pool: PoolProblem, away: Floats) -> Floats:
        """Requests a second of `pool` that others may send each site when so many of its own leave it."""
        size = max(pool.request_bytes, pool.response_bytes)
        least = LEAST_GUESTS * self._whole / (size or 1.0)
        return np.maximum(self._most(pool, pool.response_bytes, pool.request_bytes, away), least)

    def take(self, pool: PoolProblem, away: Floats, guests: Floats) -> None:
        """So many requests a second leave each site and come to it."""
        self._out += away * pool.request_bytes + guests * pool.response_bytes
        self._in += away * pool.response_bytes + guests * pool.request_bytes

    def _most(self, pool: PoolProblem, out: float, into: float, others: Floats | None) -> Floats:
        """Of requests of which each sends `out` bytes and brings `into`, beside those whose bytes go the
        other way round."""
        most, fill = np.full(len(self.thin), np.inf), self.share(pool) * self._whole
        for taken, size, back in ((self._out, out, into), (self._in, into, out)):
            if size:
                beside = taken if others is None else taken + others * back
                most = np.minimum(most, np.maximum(0.0, fill - beside) / size)
        return most


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
