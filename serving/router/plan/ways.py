"""The ways of one pool: what it costs each front door to reach each member, in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from serving.router.plan.problem import Flags, Floats, Ints, PoolProblem, Problem

ALL = 128
"""Up to so many members each door considers all …"""
NEAREST = 12
"""… and among more at first so many: a thousand doors times a thousand members is more than a second's work
…"""
AMPLE = 4.0
"""… and as many as can take so many times what it brings."""
ADDED = 6
"""Cheaper ones than all that a door considers join in so many at a time."""
LONG = 10
"""Beyond so many times `NEAREST` on average, doors forget the others and begin anew."""
PREFERENCE = 2.0
"""`prefer-local`: the way to another site counts as if it took this times the longest way and wait more."""
A_LITTLE = 1e-2
"""Of what a door sends: by ways that are new to it."""
AT_ONCE = 128
"""Doors whose ways to all members are looked at together: so many fit a processor's cache."""


@dataclass(frozen=True)
class Ways:
    """The ways from doors with requests to the sites that may answer them: of one door after the other."""

    offered: Floats
    """Requests a second, by door."""
    most_away: Floats
    """By door: requests a second that its line to other sites carries."""
    door: Ints
    """By way, the place of its door in `offered`, in order."""
    first: Ints
    """By door, the place of its first way; each has one at least."""
    site: Ints
    """By way, the place of its site among the members."""
    seconds: Floats
    """By way, what it costs."""
    is_home: Flags
    """By way, whether it stays at the door's own site."""

    def each(self, values: Floats) -> Floats:
        """Sums over each door's ways."""
        return np.asarray(np.add.reduceat(values, self.first), np.float64)

    def away(self) -> Ways | None:
        """Of one door: those that do not stay at home; None: there are none."""
        rest = ~self.is_home
        if not rest.any():
            return None
        return replace(
            self,
            door=self.door[rest],
            site=self.site[rest],
            seconds=self.seconds[rest],
            is_home=self.is_home[rest],
        )

    def carried(self, other: Ways, sent: Floats) -> Floats:
        """What is `sent` by `other` ways of the same doors, all of which are among these; a little by the
        rest."""
        count = max(int(self.site.max()), int(other.site.max())) + 1
        found = np.full(len(self.site), A_LITTLE) * self.offered[self.door]
        place = np.searchsorted(self.door * count + self.site, other.door * count + other.site)
        found[place] = sent
        return np.asarray(found, np.float64)

    def asked(self, values: Floats, count: int) -> Floats:
        """Sums over the ways to each of `count` members."""
        return np.bincount(self.site, values, count).astype(np.float64)


@dataclass(frozen=True)
class Distances:
    """Of one pool, from every door to every member: round trip and transfer, the cost of bytes, and the
    preference for the own site; infinite where requests may not go.

    They are reckoned where they are needed: of a thousand sites each pool's would fill 8 MB.
    """

    rtt_s: Floats
    """(doors, sites), shared by all pools."""
    s_per_byte: Floats
    """Likewise: the time that a byte takes, and what it costs as time."""
    size: float
    """Bytes of a request and its response."""
    columns: Ints
    """Each member's place among the sites."""
    home: Ints
    """By door, the place of its own site among the members; -1 where it is none."""
    longest_s: float = 0.0
    """The longest way."""
    nearest_s: float = np.inf
    """The shortest to another site; infinite where there is none."""
    added_s: float = 0.0
    """To every way to another site, by placement; infinite where none may be taken."""
    full: Flags | None = None
    """Members to which no other door should send more; None: there are none."""
    shut_s: float = 0.0
    """To every way there, from doors that have another."""

    @classmethod
    def of(
        cls,
        problem: Problem,
        pool: PoolProblem,
        s_per_byte: Floats,
        wait_s: float,
        before: Distances | None = None,
    ) -> Distances:
        """`s_per_byte`: the problem's with the cost of bytes. `wait_s`: more than the wait at any member that
        is not overloaded. `before`: perhaps the same ones."""
        columns = np.array([problem.number[member.site] for member in pool.members], np.int64)
        home = np.full(len(problem.sites), -1)
        home[columns] = np.arange(len(columns))
        size = pool.request_bytes + pool.response_bytes
        plain = cls(problem.rtt_s, s_per_byte, size, columns, home)
        if before is not None and plain.alike(before):
            longest, nearest = before.longest_s, before.nearest_s
        else:
            parts = [plain.whole(doors) for doors in _parts(np.arange(len(home)))]
            longest = max(float(part.max(initial=0.0)) for part in parts)
            nearest = min(float(part.min(initial=np.inf, where=part > 0)) for part in parts)
        added = {"anywhere": 0.0, "prefer-local": PREFERENCE * (longest + wait_s), "local-only": np.inf}
        return replace(plain, longest_s=longest, nearest_s=nearest, added_s=added[pool.placement])

    def alike(self, other: Distances) -> bool:
        """Whether the ways are the same, but for what is added to all."""
        return (
            self.rtt_s is other.rtt_s
            and self.s_per_byte is other.s_per_byte
            and self.size == other.size
            and np.array_equal(self.columns, other.columns)
        )

    def whole(self, doors: Ints) -> Floats:
        """(doors, members): from these doors to every member, in seconds."""
        every = len(self.columns) == self.rtt_s.shape[1]
        at = doors if every else np.ix_(doors, self.columns)
        seconds = self.rtt_s[at] + self.added_s
        if self.size:
            seconds += self.size * self.s_per_byte[at]
        own = self.home[doors]
        if self.full is not None:
            seconds += self._shut(doors)[:, None] * self.full
        seconds[own >= 0, own[own >= 0]] = 0.0
        return np.asarray(seconds, np.float64)

    def without(self, members: Ints, shut_s: float) -> Distances:
        """The ways where other doors had better send these no more."""
        full = np.zeros(len(self.columns), bool)
        full[members] = True
        return replace(self, full=full, shut_s=shut_s)

    def _shut(self, doors: Ints) -> Floats:
        """By door, what is added to ways to members that are full: it must have another."""
        every = self.full is not None and bool(self.full.all())
        return np.where((self.home[doors] >= 0) | (not every), self.shut_s, 0.0)

    def by_site(self, values: Floats) -> Floats:
        """Of what each member has, what each site has."""
        found = np.zeros(len(self.home))
        found[self.columns] = values
        return found

    def row(self, door: int) -> Floats:
        """From one door to every member, in seconds."""
        only: Floats = self.whole(np.array([door]))
        return np.asarray(only[0], np.float64)

    def leads_somewhere(self) -> Flags:
        """By door, whether any member may answer its requests."""
        return (self.home >= 0) | (np.isfinite(self.added_s) and len(self.columns) > 0)

    def ways(self, known: Known, doors: Ints, offered: Floats, most_away: Floats) -> Ways:
        """The ways from `doors`, in order, to the members that they know."""
        place = np.full(len(self.home), -1)
        place[doors] = np.arange(len(doors))
        door, site = known.door, known.site
        pick = place[door] >= 0
        if not np.isfinite(self.added_s):
            pick &= site == self.home[door]
        if not pick.all():
            door, site = door[pick], site[pick]
        column, is_home = self.columns[site], site == self.home[door]
        seconds = self.rtt_s[door, column]
        if self.size:
            seconds = seconds + self.size * self.s_per_byte[door, column]
        seconds = seconds + self.added_s
        if self.full is not None:
            seconds = seconds + self._shut(door) * self.full[site]
        place = place[door]
        first = np.concatenate([[0], np.cumsum(np.bincount(place, minlength=len(doors)))[:-1]])
        return Ways(offered, most_away, place, first, site, np.where(is_home, 0.0, seconds), is_home)

    def nearest(self, offered: Floats, capacity: Floats, count: int = NEAREST) -> Known:
        """What doors know at first: the nearest `count` members, the own one among them, and as many as can
        take far more than the door brings."""
        doors: Ints = np.arange(len(self.home))
        members = len(self.columns)
        if members <= max(ALL, count):
            return Known(members, np.arange(len(doors) * members))
        found = []
        for part in _parts(doors):
            seconds = self.whole(part)
            near = np.argpartition(seconds, count, axis=1)[:, :count]
            found.append((part[:, None] * members + near).ravel())
            for row in np.flatnonzero(capacity[near].sum(axis=1) < AMPLE * offered[part]):
                order = np.argsort(seconds[row], kind="stable")
                enough = np.searchsorted(np.cumsum(capacity[order]), AMPLE * offered[part[row]]) + 1
                found.append(part[row] * members + order[:enough])
        return Known(members, np.unique(np.concatenate(found)))

    def with_cheaper(self, known: Known, ways: Ways, doors: Ints, price: Floats, by_s: float) -> Cheaper:
        """`known` and, where members are cheaper at these prices than all that a door knows, by `by_s`
        seconds, the cheapest of them; itself where there are none."""
        members = len(price)
        if len(known.pairs) == members * len(self.home) or not np.isfinite(self.added_s):
            return Cheaper(known, 0.0, 0.0)
        best = np.minimum.reduceat(ways.seconds + price[ways.site], ways.first)
        found, most, together = [], 0.0, 0.0
        for part in _parts(np.arange(len(doors))):
            cost = self.whole(doors[part]) + price
            gains = best[part] - cost.min(axis=1)
            could = np.flatnonzero(gains > by_s)
            if len(could):
                most = max(most, float(gains.max()))
                together += float((ways.offered[part] * np.maximum(gains, 0.0)).sum())
                cheap = np.argpartition(cost[could], ADDED, axis=1)[:, :ADDED]
                row = np.repeat(could, ADDED)
                cheaper = cost[row, cheap.ravel()] < best[part[row]]
                found.append(doors[part[row]][cheaper] * members + cheap.ravel()[cheaper])
        if found:
            known = Known(members, np.union1d(known.pairs, np.concatenate(found)))
        return Cheaper(known, most, together)


@dataclass(frozen=True)
class Known:
    """Which members each door considers."""

    members: int
    pairs: Ints
    """In order: a door's place times `members`, plus the member's."""

    def is_long(self, doors: int) -> bool:
        """Whether so many doors had better begin anew, with the nearest."""
        return self.members > ALL and len(self.pairs) > LONG * NEAREST * doors

    @classmethod
    def all(cls, members: int, door: int) -> Known:
        """What one door knows that knows every member."""
        return cls(members, np.arange(door * members, (door + 1) * members))

    def of(self, door: int) -> Known:
        """What one door knows."""
        first, end = np.searchsorted(self.pairs, [door * self.members, (door + 1) * self.members])
        return Known(self.members, self.pairs[first:end])

    @property
    def door(self) -> Ints:
        """By pair."""
        return self.pairs // self.members

    @property
    def site(self) -> Ints:
        """By pair."""
        return self.pairs % self.members


@dataclass(frozen=True)
class Cheaper:
    """Members that are cheaper than those that doors knew."""

    known: Known
    """With them."""
    most_s: float
    """By how much at most."""
    all_s: float
    """Seconds a second that all doors together gain by them at most."""


def _parts(doors: Ints) -> Iterator[Ints]:
    return (doors[first : first + AT_ONCE] for first in range(0, len(doors), AT_ONCE))
