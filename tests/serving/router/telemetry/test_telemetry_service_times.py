"""Variance from sums, and capacity from times."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.router.telemetry.service_times import FEW, MeanOfFew, capacity, squared_variation
from serving.router.telemetry.summary import BatchTime


@pytest.mark.parametrize("cv2", [0.05, 1.0, 3.0])
def test_variance_is_found_from_sums_of_groups(cv2):
    random = np.random.default_rng(3)
    shape, mean = 1 / cv2, 0.02
    groups = []
    for _ in range(4000):
        times = random.gamma(shape, mean / shape, size=random.integers(0, 12))
        groups.append((float(len(times)), float(times.sum())))
    assert squared_variation(groups) == pytest.approx(cv2, rel=0.1)


def test_of_few_groups_nothing_is_said():
    assert squared_variation([(1, 0.1)] * 4 + [(0, 0.0)] * 50) is None
    assert squared_variation([(3, 0.0)] * 9) is None
    assert squared_variation([(2, 0.2)] * 9) == pytest.approx(0)


def times(**by_rows: tuple[float, float]) -> dict[int, BatchTime]:
    return {int(rows[1:]): BatchTime(executions=n, mean_ms=ms) for rows, (n, ms) in by_rows.items()}


def test_capacity_is_instances_times_rows_over_time_at_the_best_batch_size():
    seen = times(b1=(5, 10.0), b4=(2, 16.0))
    assert capacity(seen, 2, 1.0, None) == pytest.approx(2 * 4 / 0.016)
    assert capacity(seen, 2, 4.0, None) == pytest.approx(2 / 0.016), "a request may hold several rows"
    assert capacity({}, 2, 1.0, None) is None


def test_a_record_holds_while_the_site_is_idle_and_yields_to_what_is_seen_as_it_fills():
    assert capacity({}, 1, 1.0, 40.0) == 40
    idle, half, full = (times(b1=(rate, 20.0)) for rate in (0.0, 25.0, 50.0))
    assert capacity(idle, 1, 1.0, 40.0) == pytest.approx(40)
    assert 40 < capacity(half, 1, 1.0, 40.0) < 50  # type: ignore[operator]
    assert capacity(full, 1, 1.0, 40.0) == pytest.approx(50)


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(1, 100)), max_size=30))
def test_a_mean_of_few_stays_among_them_and_follows_the_last(groups):
    few, seen = MeanOfFew(), []
    for count, each in groups:
        few.add(count, count * each)
        seen += [each] * bool(count)
        if seen:
            assert min(seen) - 1e-6 <= few.mean <= max(seen) + 1e-6
    for _ in range(20 * FEW):
        few.add(1, 7.0)
    assert few.mean == pytest.approx(7.0, rel=1e-3)


def test_a_mean_of_few_is_their_mean():
    few = MeanOfFew()
    for each in range(1, FEW + 1):
        few.add(1, each)
    assert few.mean == pytest.approx((FEW + 1) / 2)
