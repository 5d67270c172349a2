"""Who is asked how often: the mean load on an agent is bounded however large the fleet is."""

from __future__ import annotations

import pytest

from serving.router.telemetry.exchange import PERIOD_S, Peer, periods


def peers(count: int, relays: int = 0) -> dict[str, Peer]:
    return {f"s{n}": Peer(f"s{n}", "http://x", relay=n < relays) for n in range(count)}


@pytest.mark.parametrize("count", [1, 4, 20, 40])
def test_small_fleets_tell_each_other_twice_a_second(count):
    assert set(periods("me", peers(count)).values()) == {PERIOD_S}


@pytest.mark.parametrize(("count", "relays"), [(100, 0), (1000, 0), (1000, 20), (200, 1), (3, 1)])
def test_no_agent_asks_more_than_eighty_times_a_second(count, relays):
    assert sum(1 / period for period in periods("me", peers(count, relays)).values()) <= 80 + 1e-6


def test_relays_are_asked_all_the_time_and_each_by_its_share_of_the_fleet():
    asked = {f"s{n}": 0 for n in range(20)}
    for site in range(1000):
        paces = periods(f"site-{site}", peers(1000, relays=20))
        often = [peer for peer, period in paces.items() if period == PERIOD_S]
        assert len(often) == 2
        for peer in often:
            asked[peer] += 1
    assert min(asked.values()) > 50
    assert max(asked.values()) < 170
