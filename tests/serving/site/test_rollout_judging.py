"""When a new version is turned back: the rules, over figures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from models.card import Tolerance
from serving.fleet import Rollout
from serving.site.rollout.judge import difference_of
from serving.site.rollout.judging import (
    FEWEST,
    Compared,
    Served,
    Spans,
    against_compared,
    against_served,
    at_least,
    median_at_least,
)

RULES = Rollout(samples=20, errors=0.01, slower=1.5)
FINE = Compared(recorded=20, mirrored=30, ratio=1.0, old_ms=3.0, new_ms=3.0)


def compared(**changes: object) -> str:
    return against_compared("m", FINE.model_copy(update=changes), RULES, may_differ=False)


def served(requests: int, ms: float = 0.0, errors: int = 0) -> Served:
    return Served(requests=requests, errors=errors, answers=requests if ms else 0, total_ms=ms * requests)


def test_as_good_as_the_old_one_passes() -> None:
    assert compared() == ""
    assert against_served("m", served(50, 3), served(900, 3), [1.0] * 20, RULES) == ""


def test_one_other_output_is_enough_unless_outputs_may_differ() -> None:
    why = compared(different=1, first_difference="output `y` is 3")
    assert why == "m: 1 of 50 compared requests have other outputs: output `y` is 3"
    different = FINE.model_copy(update={"different": 50})
    assert against_compared("m", different, RULES, may_differ=True) == ""
    some = RULES.model_copy(update={"different": 0.1})
    assert against_compared("m", FINE.model_copy(update={"different": 2}), some, may_differ=False) == ""
    assert against_compared("m", FINE.model_copy(update={"different": 20}), some, may_differ=False)


@pytest.mark.parametrize(
    ("ratio", "old", "new", "pairs", "turned"),
    [(2.0, 3, 6, 50, True), (1.4, 3, 4.2, 50, False), (3.0, 0.2, 0.6, 50, False), (2.0, 3, 6, 19, False)],
    ids=["slow", "within", "not felt", "too few"],
)
def test_slower(ratio: float, old: float, new: float, pairs: int, turned: bool) -> None:
    found = Compared(mirrored=pairs, ratio=ratio, ratio_at_least=ratio, old_ms=old, new_ms=new)
    why = against_compared("m", found, RULES, may_differ=False)
    assert bool(why) is turned
    if turned:
        assert "2.00 times as long (6.0 ms, the old one 3.0 ms" in why
    assert bool(against_served("m", served(pairs, new), served(900, old), [ratio] * 20, RULES)) is turned


def test_a_busy_moment_is_not_a_slower_version() -> None:
    """Half of the compared requests fell on it: the median says slower, and is not sure."""
    ratios = [0.9, 1.0, 1.1, 1.0, 4.0, 6.0, 3.0, 2.0, 5.0, 2.5]
    bound = median_at_least(ratios)
    assert bound == 1.0
    found = Compared(mirrored=30, ratio=2.2, ratio_at_least=bound, old_ms=1.0, new_ms=3.0)
    assert against_compared("m", found, RULES, may_differ=False) == ""
    assert against_served("m", served(50, 3), served(900, 1), ratios, RULES) == ""


@given(st.lists(st.floats(0.01, 100), max_size=60), st.data())
def test_the_lower_end_of_a_median(values: list[float], data: st.DataObject) -> None:
    bound = median_at_least(values)
    assert (bound is None) is (len(values) < FEWEST)
    if bound is None:
        return
    assert bound <= np.median(values)
    below = sum(value < bound for value in values)
    assert float(binom.cdf(below, len(values), 0.5)) < 0.05, "so seldom is the true median below it"
    assert median_at_least(data.draw(st.permutations(values))) == bound


def test_spans_of_time() -> None:
    spans = Spans()
    spans.add(served(0), served(10, 2.0))
    assert spans.ratios == [], "the new one has not answered yet"
    spans.add(served(2, 4.0), served(20, 2.0))
    spans.add(served(2, 4.0), served(30, 2.0))
    # Twenty answers of the old one since, ten of 2 ms and ten of 6; two of the new one, of 40 ms.
    spans.add(served(4, 22.0), served(40, 3.0))
    assert spans.ratios == [2.0, 10.0]
    spans.add(served(1, 6.0), served(41, 3.0))
    assert spans.ratios[2] == pytest.approx(2.0), "a new version that was started anew"


@pytest.mark.parametrize(("failed", "turned"), [(0, False), (2, False), (3, True), (50, True)])
def test_failures_that_only_the_new_version_has(failed: int, turned: bool) -> None:
    assert bool(compared(failed=failed, first_failure="HTTP 500")) is turned
    assert bool(against_served("m", served(50, errors=failed), served(900), [], RULES)) is turned


def test_errors_that_the_old_version_has_as_well_are_not_held_against_the_new() -> None:
    assert against_served("m", served(100, errors=12), served(1000, errors=110), [], RULES) == ""


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_the_lower_end_lies_below_the_share(bad: int, of: int) -> None:
    bad = min(bad, of)
    assert 0 <= at_least(bad, of) <= bad / of
    assert (at_least(bad, of) > 0) is (bad > 0)
    assert at_least(bad * 10, of * 10) >= at_least(bad, of) - 1e-12


def test_differences_in_words() -> None:
    close = Tolerance(absolute=0.1)
    one, two = np.array([[1.0, 2.0]], np.float32), np.array([[1.05, 2.5]], np.float32)
    assert difference_of({"y": one}, {"y": one + 0.05}, close) == ""
    assert "element [0, 1], is 2.5, the old version's 2" in difference_of({"y": one}, {"y": two}, close)
    assert "outputs y, z" in difference_of({"y": one}, {"y": one, "z": one}, close)
    assert "expected float32 [1, 2]" in difference_of({"y": one}, {"y": one[0]}, close)
    words = np.array([b"a", b"b"], np.object_)
    assert difference_of({"t": words}, {"t": words}, close) == ""
    assert "output `t`" in difference_of({"t": words}, {"t": words[::-1]}, close)
