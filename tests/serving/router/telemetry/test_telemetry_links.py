"""Round trips and bandwidth from the times of exchanges."""

from __future__ import annotations

import random

import pytest
from telemetry_made import Clock

from serving.router.telemetry.links import LinkMeter
from serving.router.telemetry.summary import Link

SMALL, PADDED = 1_500, 11_700
THIN, FAST = 1_250_000, 125_000_000
"""Bytes a second."""


class Way:
    """To another site, and what is measured of it."""

    def __init__(self, seed: int = 7, *, paced: bool = False) -> None:
        self._clock, self._chance = Clock(), random.Random(seed)
        self._meter = LinkMeter(self._clock, paced=paced)
        self._spread = 0.22 if paced else 0.0

    def after(self, exchanges: int, rtt_s: float, bytes_per_s: float, jitter_s: float = 0.0) -> Link:
        """What is known after so many more, half a second apart."""
        for _ in range(exchanges):
            self._clock.now += 0.5
            padded = self._meter.wants_padding()
            size = PADDED if padded else SMALL
            late = self._chance.expovariate(1 / 0.0005) + self._chance.uniform(0, jitter_s)
            # What BBR spreads and what the link's speed spreads go on at the same time.
            sending = max(size / bytes_per_s, self._spread * rtt_s * padded)
            self._meter.add(size, rtt_s + sending + late, padded=padded)
        link = self._meter.link()
        assert link
        return link


def test_a_thin_link_is_measured():
    link = Way().after(200, 0.04, THIN)
    assert link.rtt_ms == pytest.approx(40, rel=0.1)
    assert link.mbit_s == pytest.approx(10, rel=0.15)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("exchanges", "jitter_s"), [(20, 0.003), (200, 0.01)])
def test_a_thin_link_that_jitters_is_measured(seed, exchanges, jitter_s):
    """A little within ten seconds, more within minutes; the bytes of a padded question take 8 ms."""
    link = Way(seed).after(exchanges, 0.04, THIN, jitter_s)
    assert link.mbit_s is not None
    assert 5 < link.mbit_s < 20


@pytest.mark.parametrize("rtt_s", [0.002, 0.01, 0.03, 0.08, 0.3])
def test_a_far_link_is_not_thin_where_the_kernel_paces(rtt_s):
    way = Way(paced=True)
    assert not any(way.after(1, rtt_s, FAST, 0.003).mbit_s for _ in range(300))


def test_a_very_thin_link_stands_out_where_the_kernel_paces():
    assert Way(paced=True).after(200, 0.03, THIN / 5, 0.003).mbit_s == pytest.approx(2, rel=0.2)


def test_what_a_link_carries_may_change():
    """Two minutes after it did, nothing is left of what was there before."""
    way = Way()
    assert way.after(200, 0.04, THIN, 0.003).mbit_s == pytest.approx(10, rel=0.3)
    assert way.after(260, 0.04, THIN / 5, 0.003).mbit_s == pytest.approx(2, rel=0.2)
    assert way.after(260, 0.04, FAST, 0.003).mbit_s is None


@pytest.mark.parametrize("rtt_s", [0.002, 0.1])
def test_another_round_trip_is_no_other_bandwidth(rtt_s):
    """But for the half minute in which some times are new and others old."""
    way = Way()
    way.after(200, 0.03, FAST, 0.002)
    thin = [way.after(1, rtt_s, FAST, 0.002).mbit_s is not None for _ in range(300)]
    assert sum(thin) <= 60
    assert not any(thin[150:])


@pytest.mark.parametrize("jitter_s", [0.0, 0.002, 0.01, 0.05])
def test_a_fast_link_is_never_taken_for_a_thin_one(jitter_s):
    link = Way().after(200, 0.01, FAST, jitter_s)
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
    padded = 0
    for _ in range(7200):
        wanted = meter.wants_padding()
        meter.add(PADDED if wanted else SMALL, 0.05, padded=wanted)
        padded += wanted
    assert padded * PADDED * 8 / 3600 < 10_000_000 / 1000


def test_what_was_not_answered_tells_nothing():
    """While the other site starts, say."""
    meter = LinkMeter(Clock())
    assert not any(meter.wants_padding() for _ in range(100))
    meter.add(SMALL, 0.05, padded=False)
    assert all(meter.wants_padding() for _ in range(100))
