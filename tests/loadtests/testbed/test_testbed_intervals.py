"""Ratios of policies, and how sure they are."""

from __future__ import annotations

import numpy as np
import pytest

from loadtests.testbed.intervals import ratio


def rounds(mean: float, number: int = 5, seed: int = 7) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.gamma(4, mean / 4, 200) for _ in range(number)]


def test_the_interval_holds_the_ratio_and_tells_twice_from_once():
    found = ratio(rounds(200, seed=8), rounds(100), None)
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(2, rel=0.1)
    assert found.low > 1.2


def test_alike_is_not_told_apart():
    ours, theirs = rounds(100, 10)[:5], rounds(100, 10)[5:]
    for percent in (None, 99):
        found = ratio(ours, theirs, percent)
        assert found.low < 1 < found.high


def test_two_rounds_have_no_interval():
    found = ratio(rounds(300, 2), rounds(100, 2), 99)
    assert found.value == pytest.approx(3)
    assert found.low is None
    assert found.high is None


def test_what_was_never_asked_has_no_ratio():
    assert ratio([np.array([])] * 3, rounds(100, 3), None) is None
