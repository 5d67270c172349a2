"""One direction of a link: when packets arrive, and which do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.testbed.wire import Lane, Line, Way


def lane(*lines: Line, **changes: float) -> Lane:
    declared = {"delay_ms": 10, "jitter_ms": 0, "loss": 0, "mbit_s": 8, "queue_ms": 100}
    return Lane(Way(**{**declared, **changes}), out=-1, lines=lines)


def test_a_packet_takes_its_bytes_at_the_rate_and_the_delay():
    assert lane().arrival(1000, 5.0) == pytest.approx(5.0 + 0.001 + 0.010)


def test_packets_at_once_follow_each_other_at_the_rate():
    one = lane()
    found = [one.arrival(1000, 5.0) for _ in range(5)]
    assert found == pytest.approx([5.011, 5.012, 5.013, 5.014, 5.015])


def test_what_would_wait_too_long_is_dropped_and_what_comes_later_is_not():
    one = lane(queue_ms=2.5)
    found = [one.arrival(1000, 5.0) for _ in range(5)]
    assert found[:3] == pytest.approx([5.011, 5.012, 5.013])
    assert found[3:] == [None, None]
    assert one.arrival(1000, 5.01) == pytest.approx(5.021)


def test_links_share_their_sites_line():
    """Which carries half of what each of them could."""
    line = Line(4)
    both = [lane(line), lane(line)]
    found = [one.arrival(1000, 5.0) for one in (*both, *both)]
    assert found == pytest.approx([5.013, 5.015, 5.017, 5.019])
    assert lane().arrival(1000, 5.0) == pytest.approx(5.011)


def test_what_would_wait_too_long_for_the_line_is_dropped():
    line = Line(4)
    both = [lane(line, queue_ms=2.5), lane(line, queue_ms=2.5)]
    found = [one.arrival(1000, 5.0) for one in (*both, *both)]
    assert found == [pytest.approx(5.013), pytest.approx(5.015), None, None]


def test_a_loss_of_one_is_a_black_hole():
    one = lane(loss=1)
    assert {one.arrival(100, 1.0) for _ in range(1000)} == {None}


def test_a_loss_of_a_fifth_loses_about_a_fifth():
    one = lane(loss=0.2, mbit_s=1e6)
    lost = sum(one.arrival(100, at / 10) is None for at in range(10_000))
    assert 1_800 < lost < 2_200


@given(
    st.floats(0, 50),
    st.lists(st.tuples(st.floats(0, 0.05), st.integers(40, 1500)), min_size=2, max_size=50),
)
def test_no_packet_overtakes_another_or_comes_before_it_could(jitter, packets):
    one, now, last = lane(jitter_ms=jitter, queue_ms=1e6), 1.0, 0.0
    for pause, size in packets:
        now += pause
        at = one.arrival(size, now)
        assert at is not None
        assert at >= last
        assert at >= now + size * 8 / 8e6
        last = at
