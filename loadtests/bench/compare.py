"""Variants side by side in one run: rounds in which every variant has its turn, in shuffled order.

A machine whose speed drifts drifts for all variants of a round alike, so ratios are taken round by round and
their median is quoted with its range.
"""

from __future__ import annotations

import os
import random
import statistics
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from loadtests.bench.machine import cpu_seconds
from loadtests.bench.usage import Meter, Usage

Call = Callable[[], object]
"""One request, answered."""


@dataclass(frozen=True)
class Turn:
    """One variant's turn in one round. Times in seconds."""

    latencies: list[float]
    wall: float
    cpu: float
    """Processor time of the benchmark and the parts it uses."""
    usage: Usage | None = None
    """Of the one part that the variant is about, where it has one."""

    @property
    def throughput(self) -> float:
        """Requests a second."""
        return len(self.latencies) / self.wall

    @property
    def p50(self) -> float:
        """Median latency."""
        return statistics.median(self.latencies)


@dataclass
class Variant:
    """What is measured: `client` makes one worker's own client and returns its call."""

    name: str
    client: Callable[[], Call]
    meter: Meter | None = None
    turns: list[Turn] = field(default_factory=list)

    def latencies(self) -> list[float]:
        """Of all turns, sorted, seconds."""
        return sorted(latency for turn in self.turns for latency in turn.latencies)

    def percentile(self, share: float) -> float:
        """Latency that `share` of the requests did not exceed, seconds (nearest rank)."""
        ordered = self.latencies()
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def ratio(self, base: Variant, figure: Callable[[Turn], float]) -> tuple[float, float, float]:
        """This variant's `figure` over `base`'s, round by round: median, smallest, largest."""
        ratios = [figure(a) / figure(b) for a, b in zip(self.turns, base.turns, strict=True)]
        return statistics.median(ratios), min(ratios), max(ratios)

    def as_dict(self) -> dict[str, float]:
        """Figures over all turns: milliseconds, requests a second."""
        requests = sum(len(turn.latencies) for turn in self.turns)
        return {
            "requests": requests,
            "p50_ms": 1e3 * self.percentile(0.50),
            "p99_ms": 1e3 * self.percentile(0.99),
            "per_second": requests / sum(turn.wall for turn in self.turns),
            "cpu_ms": 1e3 * sum(turn.cpu for turn in self.turns) / requests,
        }


def run(
    variants: Mapping[str, Callable[[], Call]],
    *,
    in_flight: int,
    rounds: int,
    requests: int,
    own: Collection[int],
    meters: Mapping[str, Meter] | None = None,
    seed: int = 1,
) -> list[Variant]:
    """Give every variant `rounds` turns of `requests` requests by `in_flight` workers with one request each.

    `own` are the process trees whose processor time counts beside this one. A worker's first call of a turn
    warms its client and is not counted. `meters`: by variant, what measures the part that it is about.
    """
    found = [Variant(name, client, (meters or {}).get(name)) for name, client in variants.items()]
    own = {os.getpid(), *own}
    order = random.Random(seed)
    for _ in range(rounds):
        for variant in order.sample(found, len(found)):
            variant.turns.append(_turn(variant, in_flight, requests, own))
    return found


def _turn(variant: Variant, in_flight: int, requests: int, own: Collection[int]) -> Turn:
    latencies: list[list[float]] = [[] for _ in range(in_flight)]
    failures: list[BaseException] = []
    gate = threading.Barrier(in_flight + 1)
    share = -(-requests // in_flight)

    def worker(mine: list[float]) -> None:
        try:
            call = variant.client()
            call()
            gate.wait()
            for _ in range(share):
                begin = time.perf_counter()
                call()
                mine.append(time.perf_counter() - begin)
        except BaseException as error:
            failures.append(error)
            gate.abort()

    threads = [threading.Thread(target=worker, args=(mine,), daemon=True) for mine in latencies]
    for thread in threads:
        thread.start()
    try:
        while gate.n_waiting < in_flight and not gate.broken:
            time.sleep(0.001)
        if variant.meter:
            variant.meter.start()
        gate.wait()
        cpu, wall = cpu_seconds(own), time.perf_counter()
    except threading.BrokenBarrierError:
        raise failures[0] from None
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - wall
    usage = variant.meter.stop() if variant.meter else None
    if failures:
        raise failures[0]
    return Turn([x for mine in latencies for x in mine], wall, cpu_seconds(own) - cpu, usage)
