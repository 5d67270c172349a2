"""One site's own pools, from what its Triton and its Envoy count."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from serving.fleet import CLASSES, Class
from serving.router.telemetry import door
from serving.router.telemetry.app_pools import AppPools
from serving.router.telemetry.counters import Counters
from serving.router.telemetry.facts import RATE_WINDOW_S, PoolFacts, rounded
from serving.router.telemetry.in_flight import InFlight
from serving.router.telemetry.model_pools import ModelPools
from serving.router.telemetry.observed import STALE_AFTER_S
from serving.router.telemetry.summary import PoolKey, PoolSummary
from serving.router.telemetry.triton import TritonReading
from serving.router.view import Pool


class Meter:
    """Takes readings, and says what they amount to.

    `pools`: all that clients may ask this front door for; `facts`: of those that the site itself answers.
    """

    def __init__(self, pools: tuple[Pool, ...], facts: Mapping[Pool, PoolFacts]) -> None:
        self._pools = tuple(pool for pool in pools if pool.kind != "server")
        self._facts = facts
        self._door: Counters[door.Key] = Counters(RATE_WINDOW_S)
        self._in_flight: InFlight[Pool] = InFlight(RATE_WINDOW_S)
        self._under_way: InFlight[tuple[Pool, str]] = InFlight(RATE_WINDOW_S + STALE_AFTER_S)
        self._had_there: dict[tuple[Pool, str], float] = {}
        self._models, self._apps = ModelPools(), AppPools(self._door, self._in_flight)

    def take_door(self, at: float, reading: door.DoorReading | None) -> None:
        """A reading of Envoy made at `at` (monotonic, seconds); None: it did not answer."""
        if reading:
            self._door.add(at, reading.counters)
        self._in_flight.take(at, reading.in_flight if reading else None)
        self._apps.take(reading)
        self._under_way.take(at, reading.under_way if reading else None)
        if reading:
            self._had_there = {way: self._had_there.get(way, 0.0) for way in reading.under_way}

    def take_triton(self, at: float, reading: TritonReading | None) -> None:
        """A reading of Triton made at `at`; None: it did not answer."""
        self._models.take(at, reading)

    def under_way(self, taken: Mapping[str, float]) -> dict[PoolKey, dict[str, float]]:
        """By pool and other site, where Envoy reaches it: requests from here that were among those which the
        site's summary tells of. `taken`: when each was (monotonic, seconds); of an old one, as it was known.
        """
        found: defaultdict[PoolKey, dict[str, float]] = defaultdict(dict)
        for way, known in self._had_there.items():
            pool, site = way
            end = taken.get(site, 0.0)
            mean = self._under_way.mean(way, begin=end - RATE_WINDOW_S, end=end)
            found[pool.key][site] = self._had_there[way] = known if mean is None else mean
        return found

    def pools(self) -> dict[PoolKey, PoolSummary]:
        """Every pool that this site answers, or that clients ask for here."""
        found = {}
        for pool in self._pools:
            offered, facts = self._offered(pool), self._facts.get(pool)
            if facts is not None or offered:
                peak = rounded(self._in_flight.most(pool)) if facts else 0.0
                more = {"offered": offered, "peak": peak, **self._bytes(pool)}
                found[f"{pool.kind}.{pool.name}"] = self._own(pool, facts).model_copy(update=more)
        return found

    def _own(self, pool: Pool, facts: PoolFacts | None) -> PoolSummary:
        if pool.kind == "app":
            return self._apps.summary(pool, facts) if facts else PoolSummary(kind="app", ready=False, room=0)
        if facts is None:
            return PoolSummary(kind="model", ready=False, room=0)
        return self._models.summary(pool.name, facts)

    def _offered(self, pool: Pool) -> dict[Class, float]:
        rates: dict[Class, float] = {
            class_: rounded(self._door.current_rate((pool, "offered", class_))) for class_ in CLASSES
        }
        return {class_: rate for class_, rate in rates.items() if rate > 0}

    def _bytes(self, pool: Pool) -> dict[str, float]:
        """Mean sizes of what the front door carried, headers included."""
        carried = self._door.increase((pool, "carried"))
        if not carried:
            return {}
        return {
            "request_bytes": rounded(self._door.increase((pool, "bytes_out")) / carried),
            "response_bytes": rounded(self._door.increase((pool, "bytes_in")) / carried),
        }
