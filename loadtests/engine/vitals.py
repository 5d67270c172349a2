"""A worker watches itself: how busy it is, and how late it wakes and sends. Under gevent only."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import gevent

from loadtests.engine.messages import Vitals
from loadtests.histogram import Histogram

TICK_S = 0.01
_SHORTEST_S = 1.0
"""A share of less time says nothing: a run that was stopped at once was all start-up."""


class Watch:
    """Watches from `start` to `stop`."""

    def __init__(self) -> None:
        self._lag, self._slip = Histogram(), Histogram()
        self._worst_lag = self._worst_slip = 0.0
        self._late = 0
        self._cpu = self._begin = 0.0
        self._share = 0.0
        self._ticker: gevent.Greenlet | None = None

    def start(self) -> None:
        """Begin; once."""
        # The event loop is this one thread: what grpc does in others does not delay it.
        self._cpu, self._begin = time.thread_time(), time.monotonic()
        self._ticker = gevent.spawn(self._tick)

    def stop(self) -> None:
        """Take the last reading."""
        if self._ticker is not None:
            wall = time.monotonic() - self._begin
            if wall >= _SHORTEST_S:
                self._share = (time.thread_time() - self._cpu) / wall
            self._ticker.kill()

    def slipped(self, seconds: float) -> None:
        """A request had its turn so long after its intended start."""
        self._slip.record(seconds)
        self._worst_slip = max(self._worst_slip, seconds)

    def too_late(self) -> None:
        """A request was never sent."""
        self._late += 1

    def worst(self) -> tuple[float, float]:
        """Largest lag and slip since last asked, milliseconds."""
        found = self._worst_lag * 1e3, self._worst_slip * 1e3
        self._worst_lag = self._worst_slip = 0.0
        return found

    def dump(self) -> dict[str, Any]:
        """All readings as `Vitals`."""
        return asdict(
            Vitals(cpu_share=self._share, lag=self._lag.encode(), slip=self._slip.encode(), late=self._late)
        )

    def _tick(self) -> None:
        while True:
            due = time.monotonic() + TICK_S
            gevent.sleep(TICK_S)
            late = max(0.0, time.monotonic() - due)
            self._worst_lag = max(self._worst_lag, late)
            self._lag.record(late)
            # A loop that hangs for a second misses a hundred ticks, not one: each counts with what was left.
            while (late := late - TICK_S) > 0:
                self._lag.record(late)
