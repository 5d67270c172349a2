"""A summary comes from another machine: whatever is not one is refused as a whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from telemetry_made import BOOT, summary

from serving.router.telemetry.summary import MOST_POOLS, SiteSummary

POOL = {"kind": "model", "ready": True}


def taken(text: str) -> bool:
    try:
        SiteSummary.model_validate_json(text)
    except ValidationError:
        return False
    return True


def test_a_summary_survives_the_wire():
    made = summary()
    assert SiteSummary.model_validate_json(made.model_dump_json(exclude_defaults=True)) == made


@pytest.mark.parametrize(
    "number", ["NaN", "-1", "1e400", "Infinity", "-Infinity", "true", '"3"', "1e13", "null"]
)
def test_numbers_that_are_none_are_refused(number):
    text = summary().model_dump_json()
    assert taken(text)
    assert not taken(text.replace('"live":3.0', f'"live":{number}'))
    assert not taken(text.replace('"rtt_ms":12.5', f'"rtt_ms":{number}'))


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"boot": "x"},
        {"boot": BOOT.upper()},
        {"sequence": -1},
        {"sequence": 1 << 60},
        {"site": "../b"},
        {"unknown": 1},
        {"pools": {"server.triton": POOL}},
        {"pools": {"model.a": POOL | {"offered": {"urgent": 1.0}}}},
        {
            "pools": {
                "model.a": {
                    "kind": "model",
                    "ready": True,
                    "by_batch": {"0": {"executions": 1.0, "mean_ms": 1.0}},
                }
            }
        },
        {"pools": {f"model.m{n}": POOL for n in range(MOST_POOLS + 1)}},
        {"links": {f"s{n}": {"rtt_ms": 1.0} for n in range(65)}},
    ],
)
def test_what_is_out_of_bounds_is_refused(change):
    assert not taken(json.dumps(json.loads(summary().model_dump_json()) | change))


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@given(key=st.sampled_from(sorted(SiteSummary.model_fields)), value=_JSON)
def test_whatever_stands_in_a_field_is_taken_within_bounds_or_refused(key, value):
    text = json.dumps(json.loads(summary().model_dump_json()) | {key: value})
    if taken(text):
        again = SiteSummary.model_validate_json(text)
        rates = [rate for pool in again.pools.values() for rate in pool.offered.values()]
        assert all(0 <= rate <= 1e12 for rate in rates)
        assert len(again.pools) <= MOST_POOLS
