"""Counting in blocks gives what counting one by one gives."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_fleets import CLS, campaign

from loadtests.sim import tallying
from loadtests.sim.tallying import OUTCOMES, Counts
from loadtests.tally import Record, Tally

LOAD = campaign(
    1,
    300,
    warm_up_s=20,
    workload=[
        {"name": "a", "model": CLS, "client": "http", "input": "text-lines", "class": "live"},
        {"name": "b", "app": "review", "client": "http", "input": "clean-texts"},
    ],
    objectives={"classes": {"live": {"p99_ms": 100}}},
)
SITES = ["hub", "edge", "truck"]
ONE = st.tuples(
    st.integers(0, 1),
    st.integers(0, 2),
    st.integers(0, 2),
    st.sampled_from(OUTCOMES),
    st.floats(0, 299.9),
    st.floats(0, 4000) | st.floats(0, 0.2),
    st.integers(1, 4),
)


@given(st.lists(ONE, max_size=40), st.sampled_from([7, 1000]))
@settings(deadline=None, max_examples=30)
def test_blocks_equal_singles(requests: list[tuple], block: int) -> None:  # type: ignore[type-arg]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tallying, "_BLOCK", block)
        counts, one_by_one = Counts(LOAD, SITES), Tally(LOAD)
        for work, door, site, outcome, intended, took, attempts in requests:
            answered = site if outcome == "ok" else -1
            ended = intended + took
            counts.add(work, door, answered, outcome, intended, ended, attempts)
            one_by_one.add(
                Record(
                    work=LOAD.workload[work].name,
                    class_=LOAD.workload[work].class_,
                    door=SITES[door],
                    site=SITES[site] if outcome == "ok" else "",
                    intended=intended,
                    sent=intended,
                    ended=ended,
                    outcome=outcome,
                    attempts=attempts,
                    detail=tallying._WHY.get(outcome, ""),
                )
            )
        tally = counts.tally()
    assert tally.series() == one_by_one.series()
    assert tally.slices() == one_by_one.slices()
    by_kind = [
        sorted(each.errors(), key=lambda error: (error.outcome, error.work)) for each in (tally, one_by_one)
    ]
    assert by_kind[0] == by_kind[1]
    assert sorted(tally.sample()) == sorted(one_by_one.sample())
    assert tally.sent == len(requests) == counts.total
