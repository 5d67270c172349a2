"""Distributions rebuilt from a slice's percentiles are close to what they came from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests import stretches
from loadtests.results import Slice


def cut(values: np.ndarray) -> Slice:
    p50, p90, p99, most = np.percentile(values, [50, 90, 99, 100])
    return Slice(
        at_s=0, seconds=1, class_="live", door="hub", site="hub", sent=len(values), right=len(values),
        p50_ms=p50, p90_ms=p90, p99_ms=p99, max_ms=most,
    )  # fmt: skip


@given(seed=st.integers(0, 999), median=st.floats(0.1, 1e4), many=st.sampled_from([1, 2, 50, 400]))
@settings(max_examples=40, deadline=None)
def test_percentiles_of_many_slices_together(seed: int, median: float, many: int) -> None:
    random = np.random.default_rng(seed)
    slices = [median * np.exp(0.4 * random.normal(size=many)) for _ in range(max(30, 400 // many))]
    counted = stretches.counts(map(cut, slices))
    true = np.concatenate(slices)
    assert counted.sum() == pytest.approx(len(true))
    for percent in (50, 90):
        rebuilt = float(stretches.percentile_ms(counted, percent))
        assert rebuilt == pytest.approx(np.percentile(true, percent), rel=0.12)
    assert float(stretches.mean_ms(counted)) == pytest.approx(true.mean(), rel=0.12)


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=2))
def test_one_or_two_answers_are_exact_to_a_bin(values: list[float]) -> None:
    counted = stretches.counts([cut(np.array(values))])
    assert float(stretches.percentile_ms(counted, 100)) == pytest.approx(max(values), rel=0.011)
    assert float(stretches.percentile_ms(counted, 1)) == pytest.approx(min(values), rel=0.011)


def test_all_alike() -> None:
    counted = stretches.counts([cut(np.full(100, 42.0))])
    assert float(stretches.percentile_ms(counted, 99)) == pytest.approx(42, rel=0.011)


def test_of_nothing_nothing_is_known() -> None:
    empty = stretches.counts([])
    assert np.isnan(stretches.percentile_ms(empty, 99))
    assert np.isnan(stretches.mean_ms(empty))


def test_shapes() -> None:
    several = np.stack([stretches.counts([cut(np.full(5, value))]) for value in (1.0, 10.0, 100.0)])
    assert stretches.percentile_ms(several, 50) == pytest.approx([1, 10, 100], rel=0.011)
    assert stretches.mean_ms(several) == pytest.approx([1, 10, 100], rel=0.011)
