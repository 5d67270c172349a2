"""Power of two choices with probing, after Prequal.

B. Wydrowski, R. Kleinberg, S. M. Rumble, A. Archer: "Load is not what you should balance: Introducing
Prequal", NSDI 2024 (https://www.usenix.org/conference/nsdi24/presentation/wydrowski). Asynchronous mode with
the paper's parameters. What differs here, because sites are few and far apart: a probe's latency has the
round trip to its site added; the reuse budget, which the paper derives for far more replicas than a pool
holds, is bounded where its formula has no answer. A probe tells what is so when it is sent, and is used once
it would be back.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loadtests.sim.view import View
from serving.fleet import Class

POOL = 16
PROBES = 3
"""Probes for each request."""
REMOVED = 1
"""Probes removed for each request, in turn the oldest and the worst."""
OLDEST_S = 1.0
QUANTILE = 2**-0.25
"""A site is hot when it has more requests in flight than this share of recent probes told of."""
SURPLUS = 1.0
"""The paper's delta: how fast probes gather."""
MOST_REUSES = 16.0
RECENT = 64
"""Numbers of requests in flight that the quantile is taken from."""


_HOT = 1e9
"""Ranks every hot probe behind every cold one."""


@dataclass(slots=True, eq=False)
class Probe:
    """What one probe told."""

    site: int
    back_at: float
    in_flight: int
    latency: float
    """Seconds, the round trip included."""
    uses_left: int


def ranking(limit: int) -> Callable[[Probe], float]:
    """Hot-cold lexicographic: the cold by latency, then the hot by requests in flight; least is best."""
    return lambda probe: probe.latency if probe.in_flight <= limit else _HOT + probe.in_flight


class Probes:
    """One door's probes of one pool."""

    def __init__(self) -> None:
        self.pool: list[Probe] = []
        """Oldest first."""
        self._recent: deque[int] = deque()
        self._ordered: list[int] = []
        self._oldest_next = True

    def add(self, probe: Probe) -> None:
        """Take a probe in; the oldest goes where there are too many."""
        self.pool.append(probe)
        if len(self.pool) > POOL:
            self.pool.pop(0)
        self._recent.append(probe.in_flight)
        insort(self._ordered, probe.in_flight)
        if len(self._recent) > RECENT:
            del self._ordered[bisect_left(self._ordered, self._recent.popleft())]

    @property
    def limit(self) -> int:
        """Most requests in flight at a site that is not hot."""
        return self._ordered[int(QUANTILE * (len(self._ordered) - 1))]

    def use(self, probe: Probe) -> None:
        """Count one use of a probe; the last one takes it out."""
        # The request that goes there is not among those it told of.
        probe.in_flight += 1
        probe.uses_left -= 1
        if not probe.uses_left:
            self.pool.remove(probe)

    def forget(self, now: float) -> None:
        """Take out what is too old."""
        while self.pool and now - self.pool[0].back_at > OLDEST_S:
            self.pool.pop(0)

    def remove(self, limit: int) -> None:
        """Take the oldest or, the next time, the worst out: else only news of busy sites stays."""
        if self.pool:
            self.pool.remove(self.pool[0] if self._oldest_next else max(self.pool, key=ranking(limit)))
        self._oldest_next = not self._oldest_next


def prequal(view: View, class_: Class, sites: Sequence[int]) -> int:
    """The best-ranked probe's site; one at random as long as there are fewer than two probes."""
    probes: Probes | None = view.memory.get("probes")
    if probes is None:
        probes = view.memory["probes"] = Probes()
    now = view.now
    probes.forget(now)
    known = [probe for probe in probes.pool if probe.back_at <= now]
    if len(sites) < len(view.nearest):
        known = [probe for probe in known if probe.site in sites]
    if len(known) < 2:
        site = view.random.choice(sites)
    else:
        limit = probes.limit
        best = min(known, key=ranking(limit))
        site = best.site
        probes.use(best)
        for _ in range(REMOVED):
            probes.remove(limit)
    _probe(view, probes, sites)
    return site


def reuses(sites: int) -> float:
    """How often one probe is used on average."""
    gathered = (1 - POOL / sites) * PROBES - REMOVED
    return min(MOST_REUSES, max(1.0, (1 + SURPLUS) / gathered)) if gathered > 0 else MOST_REUSES


def _probe(view: View, probes: Probes, sites: Sequence[int]) -> None:
    """Send probes to some sites at random."""
    now, random, uses = view.now, view.random, reuses(len(sites))
    for site in random.sample(sites, min(PROBES, len(sites))):
        server = view.server(site)
        if server.up:
            rtt = view.rtt(site)
            rounded = int(uses) + (random.random() < uses % 1)
            latency = server.typical_latency() + rtt
            probes.add(Probe(site, now + rtt, server.own + server.guests, latency, rounded))
