"""Counters become rates; nothing is ever read as a level."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.router.telemetry.counters import Counters


def test_what_was_counted_before_the_first_reading_counts_for_nothing():
    counters = Counters[str](window_s=5)
    counters.add(10.0, {"requests": 1_000_000})
    assert counters.rate("requests") == counters.increase("requests") == 0


def test_a_rate_is_the_growth_over_the_window():
    counters = Counters[str](window_s=5)
    for second in range(20):
        counters.add(float(second), {"requests": second * 30 if second < 15 else 15 * 30})
    assert counters.rate("requests") == pytest.approx(30 / 5)
    counters.add(20.0, {"requests": 15 * 30 + 50})
    assert counters.rate("requests") == pytest.approx(10)


def test_a_current_rate_follows_a_jump_once_enough_has_come():
    counters = Counters[str](window_s=5)
    total = 0.0
    for half in range(20):
        counters.add(half / 2, {"requests": total})
        total += 5 if half < 18 else 100
    assert counters.rate("requests") == pytest.approx((9 * 5 + 100) / 5)
    assert counters.current_rate("requests") == pytest.approx(200)
    assert counters.current_rate("other") == 0


def test_a_current_rate_of_what_is_rare_is_that_over_the_window():
    counters = Counters[str](window_s=5)
    for half in range(20):
        counters.add(half / 2, {"requests": half})
    assert counters.current_rate("requests") == counters.rate("requests") == pytest.approx(2)


def test_a_counter_that_went_back_was_started_anew():
    counters = Counters[str](window_s=60)
    for at, value in ((0, 500), (1, 510), (2, 4), (3, 9)):
        counters.add(float(at), {"requests": value})
    assert counters.increase("requests") == 10 + 4 + 5


def test_a_new_counter_begins_at_nothing_and_a_missing_one_stands_still():
    counters = Counters[str](window_s=60)
    counters.add(0.0, {"a": 5})
    counters.add(1.0, {"a": 6, "b": 3})
    counters.add(2.0, {"b": 4})
    counters.add(3.0, {"a": 8, "b": 4})
    assert counters.increase("a") == 3
    assert counters.increase("b") == 4
    assert list(counters.steps("a", "b")) == [(1, 3), (0, 1), (2, 0)]


@given(
    readings=st.lists(
        st.tuples(st.floats(0.01, 10), st.floats(0, 1e15, allow_nan=False)), min_size=2, max_size=40
    )
)
def test_no_rate_is_negative_or_more_than_was_counted(readings):
    counters, at = Counters[str](window_s=5), 0.0
    for step, value in readings:
        at += step
        counters.add(at, {"x": value})
    assert 0 <= counters.increase("x") <= sum(value for _, value in readings) * (1 + 1e-9)
    assert counters.seconds > 0
    assert counters.rate("x") * counters.seconds == pytest.approx(counters.increase("x"))


def test_what_shall_not_count_is_taken_off_step_by_step():
    counters = Counters[str](window_s=60)
    counters.add(0.0, {"requests": 100, "others": 1}, {"requests": 40})
    counters.add(1.0, {"requests": 110, "others": 3}, {"requests": 46})
    counters.add(2.0, {"requests": 110}, {"requests": 47})
    assert list(counters.steps("requests", "others")) == [(4, 2), (0, 0)], "read later, it is a step ahead"
    counters.add(3.0, {"requests": 7}, {"requests": 5})
    assert counters.increase("requests") == 4 + 2, "both began anew"


@given(
    steps=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=20),
)
def test_what_is_left_is_never_negative_and_never_more_than_all(steps):
    counters, requests, without = Counters[str](window_s=60), 0, 0
    counters.add(0.0, {"requests": 0})
    for second, (grown, less) in enumerate(steps, 1):
        requests, without = requests + grown, without + less
        counters.add(float(second), {"requests": requests}, {"requests": without})
    assert 0 <= counters.increase("requests") <= requests
    assert counters.increase("requests") >= requests - without
