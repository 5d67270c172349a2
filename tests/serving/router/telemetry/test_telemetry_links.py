"""Round trips and bandwidth from the times of exchanges."""

from __future__ import annotations

import random

import pytest
from telemetry_made import Clock

from serving.router.telemetry.links import LinkMeter

SMALL, PADDED = 1_500, 11_700


def measured(rtt_s: float, bytes_per_s: float, jitter_s: float = 0.0, exchanges: int = 200) -> LinkMeter:
    clock, chance = Clock(), random.Random(7)
    meter = LinkMeter(clock)
    for _ in range(exchanges):
        clock.now += 0.5
        padded = meter.wants_padding()
        size = PADDED if padded else SMALL
        wakeup = chance.expovariate(1 / 0.0005)
        meter.add(size, rtt_s + size / bytes_per_s + wakeup + chance.uniform(0, jitter_s), padded=padded)
    return meter


def test_a_thin_link_is_measured():
    link = measured(0.04, 1_250_000).link()
    assert link
    assert link.rtt_ms == pytest.approx(40, rel=0.1)
    assert link.mbit_s == pytest.approx(10, rel=0.15)


def test_a_thin_link_that_jitters_is_measured():
    link = measured(0.04, 1_250_000, jitter_s=0.004).link()
    assert link
    assert link.mbit_s is not None
    assert 5 < link.mbit_s < 20


@pytest.mark.parametrize("jitter_s", [0.0, 0.002, 0.01, 0.05])
def test_a_fast_link_is_never_taken_for_a_thin_one(jitter_s):
    link = measured(0.01, 125_000_000, jitter_s).link()
    assert link
    assert link.mbit_s is None or link.mbit_s > 40
    assert 9.9 < link.rtt_ms < 12 + jitter_s * 500


def test_a_link_that_nothing_came_over_lately_is_not_known():
    clock = Clock()
    meter = LinkMeter(clock)
    assert meter.link() is None
    meter.add(1000, 0.02, padded=False)
    assert meter.link()
    clock.now += 31
    assert meter.link() is None


def test_a_longer_way_is_seen_within_seconds():
    clock = Clock()
    meter = LinkMeter(clock)
    for rtt in [0.01] * 100 + [0.08] * 21:
        clock.now += 0.5
        meter.add(1500, rtt, padded=False)
    link = meter.link()
    assert link
    assert link.rtt_ms == pytest.approx(80)


def test_padding_costs_a_thousandth_of_a_thin_link():
    meter = LinkMeter(Clock())
    hour = [meter.wants_padding() for _ in range(7200)]
    assert sum(hour) * PADDED * 8 / 3600 < 10_000_000 / 1000
