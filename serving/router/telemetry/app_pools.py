"""Apps at one site, measured from what its Envoy counts of them.

An app counts nothing by itself. How long requests stay follows from how many there are and how many are
answered (Little's law), and those beyond what the replicas work on at a time are the queue.
"""

from __future__ import annotations

from serving.router.telemetry.counters import Counters
from serving.router.telemetry.door import Counter, DoorReading, Key
from serving.router.telemetry.facts import PoolFacts, rounded
from serving.router.telemetry.in_flight import InFlight
from serving.router.telemetry.summary import PoolSummary
from serving.router.view import Pool


class AppPools:
    """Says what readings of Envoy amount to for apps: its counters, and what it has in flight."""

    def __init__(self, recent: Counters[Key], in_flight: InFlight[Pool]) -> None:
        self._recent, self._in_flight = recent, in_flight
        self._now: DoorReading | None = None
        self._service_s: dict[Pool, float] = {}

    def take(self, reading: DoorReading | None) -> None:
        """The last reading; None: Envoy did not answer."""
        self._now = reading

    def summary(self, pool: Pool, facts: PoolFacts) -> PoolSummary:
        """The app `pool` as this site has it now."""
        errors = self._without_probes(pool, "errors", "unready")
        answered = max(0.0, self._without_probes(pool, "asked", "probed") - errors)
        had = self._in_flight.seen(pool)
        in_flight = sum(had) / len(had)
        waiting = sum(max(0.0, each - facts.instances) for each in had) / len(had)
        # Between two looks a short request may come and go: then nothing can be said of the times.
        timed = answered > 0 and in_flight > 0
        if timed:
            self._service_s[pool] = (in_flight - waiting) / answered
        # While there is none, the time known before.
        service_s = self._service_s.get(pool)
        return PoolSummary(
            kind="app",
            ready=bool(self._now and pool in self._now.ready),
            version=facts.version,
            answered=rounded(answered),
            errors=rounded(errors),
            in_flight=rounded(in_flight),
            queue_ms=rounded(waiting / answered * 1000) if timed else None,
            service_ms=rounded(service_s * 1000) if service_s is not None else None,
            instances=facts.instances,
            max_batch=1,
            room=facts.room,
            capacity=rounded(_capacity(facts, service_s)),
        )

    def _without_probes(self, pool: Pool, all_: Counter, probes: Counter) -> float:
        """The rate of requests alone. Other sites' probes come the same way and are counted a moment apart:
        rates may be subtracted, counters not."""
        return max(0.0, self._recent.rate((pool, all_)) - self._recent.rate((pool, probes)))


def _capacity(facts: PoolFacts, service_s: float | None) -> float | None:
    """By the record; without one, as if all places were taken at the present time per request."""
    return facts.capacity or (facts.instances / service_s if service_s else None)
