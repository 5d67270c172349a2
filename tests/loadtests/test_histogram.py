"""Histograms: precision, that parts add up to the whole, and that what is written can be read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.histogram import LONGEST_US, Histogram

SECONDS = st.floats(0, 7200)


def recorded(values: list[float]) -> Histogram:
    found = Histogram()
    for value in values:
        found.record(value)
    return found


def figures(histogram: Histogram) -> list[float]:
    percents = [0, 50, 99, 100]
    return [
        histogram.count,
        histogram.mean_ms,
        histogram.max_ms,
        *(histogram.percentile_ms(percent) for percent in percents),
    ]


@given(st.lists(st.lists(SECONDS, max_size=50), max_size=5))
@settings(max_examples=20, deadline=None)
def test_merge_equals_whole(parts: list[list[float]]) -> None:
    whole = recorded([value for part in parts for value in part])
    merged = Histogram.sum(recorded(part) for part in parts)
    assert figures(merged) == figures(whole)
    assert merged.encode() == whole.encode()


@given(st.lists(SECONDS, max_size=50))
@settings(max_examples=20, deadline=None)
def test_what_is_encoded_is_decoded(values: list[float]) -> None:
    histogram = recorded(values)
    assert figures(Histogram.decode(histogram.encode())) == figures(histogram)


@given(st.floats(1e-6, 3600))
@settings(deadline=None)
def test_three_digits_are_kept(seconds: float) -> None:
    histogram = recorded([seconds])
    # A microsecond is the unit: below a millisecond it decides.
    assert histogram.percentile_ms(50) == pytest.approx(seconds * 1e3, rel=1e-3, abs=1e-3)


def test_percentiles_are_those_of_the_values() -> None:
    values = np.random.default_rng(1).lognormal(-3, 1, 5000)
    histogram = recorded(values.tolist())
    for percent in (1, 50, 90, 99):
        expected = np.percentile(values, percent, method="inverted_cdf") * 1e3
        assert histogram.percentile_ms(percent) == pytest.approx(expected, rel=2e-3)
    assert histogram.mean_ms == pytest.approx(values.mean() * 1e3, rel=2e-3)


def test_an_empty_one_is_all_zero() -> None:
    assert figures(Histogram()) == [0] * 7
    assert figures(Histogram.sum([])) == [0] * 7


def test_longer_than_an_hour_counts_as_an_hour_and_nothing_is_lost() -> None:
    histogram = recorded([1e9, 0, -1])
    assert histogram.count == 3
    assert histogram.max_ms == pytest.approx(LONGEST_US / 1e3, rel=1e-3)


@pytest.mark.parametrize("text", ["", "rubbish", "ä", "HISTFAAA", Histogram().encode()[:-9] + "AAAA"])
def test_what_is_no_histogram_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an HdrHistogram"):
        Histogram.decode(text)
