"""How many requests there are at a time: a level, so it is looked at, not counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from statistics import fmean
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class InFlight(Generic[K]):
    """Requests by key, at each look within the last `window_s` seconds of a monotonic clock."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._had: deque[tuple[float, Mapping[K, float]]] = deque()

    def take(self, at: float, had: Mapping[K, float] | None) -> None:
        """A look at `at`, seconds; None: nothing could be seen."""
        if had is not None:
            self._had.append((at, had))
        while self._had and self._had[0][0] <= at - self._window_s:
            self._had.popleft()

    def seen(self, key: K) -> list[float]:
        """How many there were at each look; none is one 0."""
        return [had.get(key, 0.0) for _, had in self._had] or [0.0]

    def mean(self, key: K, *, begin: float, end: float) -> float | None:
        """How many there were on average after `begin` and until `end`; None: nobody looked then."""
        seen = [had.get(key, 0.0) for at, had in self._had if begin < at <= end]
        return fmean(seen) if seen else None

    def most(self, key: K) -> float:
        """The most that there were at any look."""
        return max(self.seen(key))
