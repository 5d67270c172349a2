"""Cumulative counters, turned into what happened within a window.

A counter's level says nothing (how long has it been counting?), only how much it grew between two readings.
One that went back belongs to a process that was started anew: it grew by what it shows now, as Prometheus
reads it (https://prometheus.io/docs/prometheus/latest/querying/functions/#rate).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
ENOUGH = 40
"""Events that a current rate is taken from: by chance, it is then off by a sixth."""


class Counters(Generic[K]):
    """Counters by key, as they grew within the last `window_s` seconds of a monotonic clock."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._last: dict[K, float] | None = None
        self._last_without: dict[K, float] = {}
        self._steps: deque[tuple[float, float, dict[K, float]]] = deque()

    def add(self, at: float, reading: Mapping[K, float], without: Mapping[K, float] | None = None) -> None:
        """Take a reading made at `at`, seconds. A key that is missing now is one that did not grow.

        `without`: what of these counters shall not count, as it has grown since the same start. Read at
        another moment, it may be a step ahead or behind: no step is less than nothing.
        """
        without = without or {}
        if self._last is None:
            self._last, self._last_without, self._since = dict(reading), dict(without), at
            return
        last, less = self._last, _grown(self._last_without, without)
        grown = {key: growth - less.get(key, 0.0) for key, growth in _grown(last, reading).items()}
        self._steps.append((self._since, at, {key: growth for key, growth in grown.items() if growth > 0}))
        self._last, self._since = {**last, **reading}, at
        self._last_without |= without
        while self._steps and self._steps[0][1] <= at - self._window_s:
            self._steps.popleft()

    @property
    def seconds(self) -> float:
        """How long the readings in the window span."""
        return sum(end - begin for begin, end, _ in self._steps)

    def last_increase(self, key: K) -> float:
        """By how much a counter grew from the reading before the last."""
        return self._steps[-1][2].get(key, 0.0) if self._steps else 0.0

    def increase(self, key: K) -> float:
        """By how much a counter grew."""
        return sum(grown.get(key, 0.0) for _, _, grown in self._steps)

    def current_rate(self, key: K) -> float:
        """Likewise of late, for rates jump: over no more of the window than has seen `ENOUGH`."""
        seconds = grown = 0.0
        for begin, end, step in reversed(self._steps):
            seconds, grown = seconds + end - begin, grown + step.get(key, 0.0)
            if grown >= ENOUGH:
                break
        return grown / seconds if seconds > 0 else 0.0

    def rate(self, key: K) -> float:
        """By how much it grew per second; 0 before the second reading."""
        seconds = self.seconds
        return self.increase(key) / seconds if seconds > 0 else 0.0

    def steps(self, first: K, second: K) -> Iterator[tuple[float, float]]:
        """By how much two counters grew from each reading to the next."""
        for _, _, grown in self._steps:
            yield grown.get(first, 0.0), grown.get(second, 0.0)


def _grown(last: Mapping[K, float], reading: Mapping[K, float]) -> dict[K, float]:
    return {key: _growth(last.get(key, 0.0), value) for key, value in reading.items()}


def _growth(before: float, now: float) -> float:
    return now - before if now >= before else now
