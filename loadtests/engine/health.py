"""Whether the generator was the bottleneck: then the run says nothing about the fleet."""

from __future__ import annotations

from collections.abc import Sequence

from loadtests.bench.machine import Conditions
from loadtests.campaign import Campaign
from loadtests.engine.messages import Vitals
from loadtests.histogram import Histogram
from loadtests.results import Generator

MAX_CPU_SHARE = 0.9
"""Of one core. A worker is one thread: above this its own work queues, and arrivals are random."""
MAX_DELAY_MS = 20.0
"""Slip and lag that hardly any answer of a model is faster than; on a machine that the fleet fills as well,
the scheduler alone gives single ones of that size."""
DELAY_SHARE = 0.1
"""Of the strictest latency objective: a delay below this share of it does not decide whether it holds."""


def delay_limit_ms(campaign: Campaign) -> float:
    """Largest p99 of slip and of lag with which the campaign's objectives can be judged."""
    latencies = campaign.objectives.classes.values()
    limits = [ms for latency in latencies for ms in (latency.p50_ms, latency.p99_ms) if ms]
    return max(MAX_DELAY_MS, DELAY_SHARE * min(limits, default=0.0))


def examine(
    campaign: Campaign, workers: int, vitals: Sequence[Vitals], machine: Conditions, dead: Sequence[str]
) -> Generator:
    """What the workers' own figures say. Pressure and steal are told but not judged: a fleet that is loaded
    on the same machine raises the first, and what either does to the generator shows in slip and lag.
    """
    lag = Histogram.sum(Histogram.decode(each.lag) for each in vitals)
    slip = Histogram.sum(Histogram.decode(each.slip) for each in vitals)
    cpu = max((each.cpu_share for each in vitals), default=0.0)
    late = sum(each.late for each in vitals)
    limit, lag_ms, slip_ms = delay_limit_ms(campaign), lag.percentile_ms(99), slip.percentile_ms(99)
    problems = list(dead)
    if late:
        problems.append(f"{late:,} requests were never sent: their time had long passed")
    if slip_ms > limit:
        problems.append(
            f"1% of the requests were sent more than {slip_ms:,.0f} ms after their time; {limit:,.0f} ms is "
            "the most with which these objectives can be judged"
        )
    if lag_ms > limit:
        problems.append(
            f"the generator woke up to {lag_ms:,.0f} ms late (p99), so answers were noticed late; "
            f"{limit:,.0f} ms is the most with which these objectives can be judged"
        )
    if cpu > MAX_CPU_SHARE:
        problems.append(f"a worker was busy for {cpu:.0%} of the time; {MAX_CPU_SHARE:.0%} is the most")
    return Generator(
        workers=workers,
        cpu_share=cpu,
        lag_p99_ms=lag_ms,
        slip_p50_ms=slip.percentile_ms(50),
        slip_p99_ms=slip_ms,
        slip_max_ms=slip.max_ms,
        pressure=machine.pressure,
        steal=machine.steal,
        problems=problems,
    )
