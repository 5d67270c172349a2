"""Models at one site, measured from what its Triton counts."""

from __future__ import annotations

from collections.abc import Mapping

from serving.router.telemetry.counters import Counters
from serving.router.telemetry.facts import RATE_WINDOW_S, SERVICE_WINDOW_S, PoolFacts, rounded
from serving.router.telemetry.service_times import capacity, squared_variation
from serving.router.telemetry.summary import MOST_BATCH_SIZES, BatchTime, PoolSummary
from serving.router.telemetry.triton import Key, TritonReading


class ModelPools:
    """Takes readings of Triton, and says what they amount to."""

    def __init__(self) -> None:
        self._recent: Counters[Key] = Counters(RATE_WINDOW_S)
        self._times: Counters[Key] = Counters(SERVICE_WINDOW_S)
        self._now: TritonReading | None = None
        self._batches: dict[str, dict[int, BatchTime]] = {}

    def take(self, at: float, reading: TritonReading | None) -> None:
        """A reading made at `at` (monotonic, seconds); None: Triton did not answer."""
        self._now = reading
        if reading:
            self._recent.add(at, reading.counters, reading.unworked)
            self._times.add(at, reading.counters, reading.unworked)
            for name in reading.batch_sizes:
                self._batches[name] = self._by_batch(name, reading)

    def summary(self, name: str, facts: PoolFacts) -> PoolSummary:
        """The model `name` as this site has it now."""
        recent, times, now = self._recent, self._times, self._now
        answered, queued = recent.increase((name, "answered")), recent.increase((name, "queued"))
        rows = recent.increase((name, "rows")) / answered if answered else 1.0
        by_batch = self._batches.get(name, {})
        waiting = now.waiting.get(name, 0.0) if now else 0.0
        return PoolSummary(
            kind="model",
            ready=bool(now and name in now.ready),
            version=facts.version,
            answered=rounded(recent.rate((name, "answered"))),
            errors=rounded(recent.rate((name, "errors"))),
            # Little's law: the time that requests spend here per second is how many there are.
            in_flight=rounded(max(waiting, recent.rate((name, "total_ns")) / 1e9)),
            queue_ms=rounded(recent.increase((name, "queue_ns")) / queued / 1e6) if queued else None,
            service_ms=self._service_ms(name),
            service_cv2=rounded(squared_variation(times.steps((name, "answered"), (name, "service_ns")))),
            by_batch=by_batch,
            instances=facts.instances,
            max_batch=facts.max_batch,
            room=facts.room,
            capacity=rounded(capacity(by_batch, facts.instances, rows, facts.capacity)),
        )

    def _service_ms(self, name: str) -> float | None:
        if answered := self._times.increase((name, "answered")):
            return rounded(self._times.increase((name, "service_ns")) / answered / 1e6)
        known = self._batches.get(name, {})
        return known[min(known)].mean_ms if known else None

    def _by_batch(self, name: str, reading: TritonReading) -> dict[int, BatchTime]:
        """The executions of the last seconds; while there are none, the times known before."""
        times, sizes = self._times, reading.batch_sizes[name]
        found = {}
        for rows in _most({rows: times.increase((name, "executions", rows)) for rows in sizes}):
            count: Key = (name, "executions", rows)
            ns: Key = (name, "execution_ns", rows)
            found[rows] = BatchTime(
                executions=rounded(self._recent.rate(count)),
                mean_ms=rounded(times.increase(ns) / times.increase(count) / 1e6),
                cv2=rounded(squared_variation(times.steps(count, ns))),
            )
        known = self._batches.get(name) or _since_it_started(name, reading)
        return found or {rows: time.model_copy(update={"executions": 0.0}) for rows, time in known.items()}


def _since_it_started(name: str, reading: TritonReading) -> dict[int, BatchTime]:
    """Means of all of Triton's time: what an agent that has just started knows of one that has not."""
    counters, sizes = reading.counters, reading.batch_sizes[name]
    executions: dict[int, Key] = {rows: (name, "executions", rows) for rows in sizes}
    counts = {rows: counters[key] - reading.unworked.get(key, 0.0) for rows, key in executions.items()}
    return {
        rows: BatchTime(
            executions=0.0,
            mean_ms=rounded(counters[name, "execution_ns", rows] / counts[rows] / 1e6),
        )
        for rows in _most(counts)
    }


def _most(counts: Mapping[int, float]) -> list[int]:
    """The sizes that there were most executions of, in order."""
    seen = sorted((rows for rows in counts if counts[rows] > 0), key=lambda rows: -counts[rows])
    return sorted(seen[:MOST_BATCH_SIZES])
