"""Models at one site, measured from what its Triton counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

from serving.router.telemetry.counters import Counters
from serving.router.telemetry.facts import RATE_WINDOW_S, SERVICE_WINDOW_S, PoolFacts, rounded
from serving.router.telemetry.service_times import FEW, MeanOfFew, capacity, squared_variation
from serving.router.telemetry.summary import MOST_BATCH_SIZES, BatchTime, PoolSummary
from serving.router.telemetry.triton import Key, TritonReading


class ModelPools:
    """Takes readings of Triton, and says what they amount to."""

    def __init__(self) -> None:
        self._recent: Counters[Key] = Counters(RATE_WINDOW_S)
        self._times: Counters[Key] = Counters(SERVICE_WINDOW_S)
        self._now: TritonReading | None = None
        self._few: defaultdict[Key, MeanOfFew] = defaultdict(MeanOfFew)
        self._batches: dict[str, dict[int, BatchTime]] = {}

    def take(self, at: float, reading: TritonReading | None) -> None:
        """A reading made at `at` (monotonic, seconds); None: Triton did not answer."""
        self._now = reading
        if reading:
            self._recent.add(at, reading.counters, reading.unworked)
            self._times.add(at, reading.counters, reading.unworked)
            for name, sizes in reading.batch_sizes.items():
                self._remember((name, "answered"), (name, "service_ns"), reading)
                for rows in sizes:
                    self._remember((name, "executions", rows), (name, "execution_ns", rows), reading)
                self._batches[name] = self._by_batch(name, sizes)

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

    def _remember(self, count: Key, ns: Key, reading: TritonReading) -> None:
        few = self._few[ns]
        if grown := self._times.last_increase(count):
            few.add(grown, self._times.last_increase(ns))
        elif not few.count:
            # All of Triton's time: what an agent that has just started knows of one that has not.
            done = reading.counters.get(count, 0.0) - reading.unworked.get(count, 0.0)
            few.add(done, reading.counters.get(ns, 0.0))

    def _mean_ms(self, count: Key, ns: Key) -> float:
        """Of the last seconds, or of the last few times where these are fewer."""
        times = self._times
        seen = times.increase(count)
        mean_ns = times.increase(ns) / seen if seen >= FEW else self._few[ns].mean
        return rounded(mean_ns / 1e6)

    def _service_ms(self, name: str) -> float | None:
        ns: Key = (name, "service_ns")
        return self._mean_ms((name, "answered"), ns) if self._few[ns].count else None

    def _by_batch(self, name: str, sizes: Collection[int]) -> dict[int, BatchTime]:
        """The executions of the last seconds; while there are none, those known before."""
        times, known = self._times, self._batches.get(name, {})
        found = {}
        for rows in _most({rows: times.increase((name, "executions", rows)) for rows in sizes}):
            count: Key = (name, "executions", rows)
            ns: Key = (name, "execution_ns", rows)
            found[rows] = BatchTime(
                executions=rounded(self._recent.rate(count)),
                mean_ms=self._mean_ms(count, ns),
                cv2=rounded(squared_variation(times.steps(count, ns))),
            )
        idle = {rows: time.model_copy(update={"executions": 0.0}) for rows, time in known.items()}
        return found or idle or self._since_it_started(name, sizes)

    def _since_it_started(self, name: str, sizes: Collection[int]) -> dict[int, BatchTime]:
        few = {rows: self._few[name, "execution_ns", rows] for rows in sizes}
        return {
            rows: BatchTime(executions=0.0, mean_ms=rounded(few[rows].mean / 1e6))
            for rows in _most({rows: mean.count for rows, mean in few.items()})
        }


def _most(counts: Mapping[int, float]) -> list[int]:
    """The sizes that there were most executions of, in order."""
    seen = sorted((rows for rows in counts if counts[rows] > 0), key=lambda rows: -counts[rows])
    return sorted(seen[:MOST_BATCH_SIZES])
