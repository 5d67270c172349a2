"""Arrivals: rates, order, reproducible seeds, and that workers share them without loss."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests import arrivals, traces
from loadtests.campaign import Campaign
from models.errors import UsageError

SIX_SIGMA = 6
"""No test of chance fails by chance."""


def work(name: str, weight: float = 1) -> dict[str, Any]:
    return {"name": name, "model": "ppocr-cls", "client": "http", "input": "text-lines", "weight": weight}


def campaign(*streams: dict[str, Any], seconds: float = 100, **changes: Any) -> Campaign:
    base = {"campaign": "test", "title": "T", "workload": [work("a", 3), work("b", 1)]}
    return Campaign.model_validate({**base, "arrivals": list(streams), "seconds": seconds, **changes})


def starts(
    declared: Campaign, doors: tuple[str, ...] = ("hub", "edge"), **share: int
) -> list[arrivals.Start]:
    return list(arrivals.schedule(declared, doors, **share))


def times(declared: Campaign) -> np.ndarray[Any, Any]:
    return np.array([start.at for start in starts(declared)])


RATE = st.floats(0.1, 60)
EDGE = st.floats(0, 100)


@st.composite
def streams(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["constant", "poisson", "ramp", "step", "spike", "day", "trace"]))
    from_s = draw(st.sampled_from([0.0, 12.5, 70.0]))
    base = {
        "kind": kind,
        "from_s": from_s,
        "until_s": draw(st.sampled_from([None, 80.0, 1000.0])),
        "site": draw(st.sampled_from([None, "hub", "edge"])),
        "work": draw(st.sampled_from([None, ["a"], ["b"]])),
        "seed": draw(st.sampled_from([None, 7])),
    }
    shape: dict[str, Any] = {
        "constant": {"rate": draw(RATE)},
        "poisson": {"rate": draw(RATE)},
        "ramp": {"start": draw(RATE), "end": draw(st.one_of(RATE, st.just(0.0)))},
        "step": {"rates": draw(st.lists(st.one_of(RATE, st.just(0.0)), min_size=1, max_size=5))},
        "spike": {"rate": draw(RATE), "peak": draw(RATE), "at_s": draw(EDGE), "for_s": draw(RATE)},
        "day": {"low": draw(RATE), "high": draw(RATE), "day_s": draw(st.floats(5, 200))},
        "trace": {
            "trace": "azure-llm-2023-conv",
            "rate_scale": draw(st.floats(0.1, 4)),
            "time_scale": draw(st.floats(0.01, 2)),
        },
    }[kind]
    return base | shape


CAMPAIGNS = st.builds(
    lambda parts, seed: campaign(*parts, seed=seed),
    st.lists(streams(), min_size=1, max_size=3),
    st.integers(0, 9),
)


@given(CAMPAIGNS, st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_workers_share_one_schedule_in_order_without_loss(declared: Campaign, workers: int) -> None:
    whole = starts(declared)
    shares = [starts(declared, worker=number, workers=workers) for number in range(workers)]
    for share in (whole, *shares):
        assert all(before.at <= after.at for before, after in itertools.pairwise(share))
    # Equal times may be parted among workers in any order.
    key = {start.name: number for number, start in enumerate(declared.workload)}

    def ordered(parts: list[arrivals.Start]) -> list[tuple[float, str, int]]:
        return sorted((start.at, start.door, key[start.work.name]) for start in parts)

    assert ordered(whole) == ordered(list(itertools.chain(*shares)))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(CAMPAIGNS)
@settings(max_examples=30, deadline=None)
def test_starts_keep_to_the_declared_time_site_and_work(declared: Campaign) -> None:
    found = starts(declared)
    ends = [min(one.until_s or declared.seconds, declared.seconds) for one in declared.arrivals]
    for start in found:
        assert any(
            one.from_s <= start.at < end
            and one.site in (None, start.door)
            and start.work.name in (one.work or ("a", "b"))
            for one, end in zip(declared.arrivals, ends, strict=True)
        )


@given(CAMPAIGNS)
@settings(max_examples=15, deadline=None)
def test_the_mean_rate_says_how_many_come(declared: Campaign) -> None:
    edges = np.linspace(0, declared.seconds, 1001)
    middles = (edges[1:] + edges[:-1]) / 2
    rates = np.array([arrivals.mean_rate(declared, float(at)) for at in middles])
    expected = float(rates.sum()) * (edges[1] - edges[0])
    found = len(starts(declared))
    # A trace's curve is smoothed over some seconds, so that up to half of them is missed at its ends.
    has_trace = any(one.kind == "trace" for one in declared.arrivals)
    blur = float(rates.max()) * arrivals.TRACE_RATE_S / 2 * has_trace
    assert abs(found - expected) <= SIX_SIGMA * math.sqrt(expected + 1) + blur + 2


def test_the_seed_alone_decides() -> None:
    shape = {"kind": "day", "low": 1, "high": 20, "day_s": 50}
    one, other = campaign(shape, seed=1), campaign(shape, seed=2)
    assert starts(one) == starts(campaign(shape, seed=1))
    assert starts(one) != starts(other)
    assert [start.at for start in starts(one)] == [start.at for start in starts(one, ("x", "y", "z"))]


def test_streams_do_not_disturb_each_other() -> None:
    first = {"kind": "poisson", "rate": 5, "work": ["a"]}
    alone = starts(campaign(first))
    both = starts(campaign(first, {"kind": "poisson", "rate": 50, "work": ["b"]}))
    assert [(start.at, start.door) for start in both if start.work.name == "a"] == [
        (start.at, start.door) for start in alone
    ]


@pytest.mark.parametrize(
    "shape",
    [
        {"kind": "poisson", "rate": 900},
        {"kind": "trace", "trace": "azure-llm-2023-conv", "rate_scale": 600},
    ],
)
def test_streams_of_one_seed_have_the_same_arrivals_whenever_they_begin(shape: dict[str, Any]) -> None:
    begins = {"a": (0.0, 3), "b": (41.3, 3), "c": (60.0, 4)}
    declared = campaign(
        *(
            {**shape, "work": [name], "from_s": begin, "until_s": begin + 20, "seed": seed}
            for name, (begin, seed) in begins.items()
        ),
        workload=[work(name) for name in begins],
    )
    drawn = starts(declared)
    assert len(drawn) > 2 * arrivals.STRETCH, "drawn in several stretches"
    a, b, c = (
        np.array([start.at - begin for start in drawn if start.work.name == name])
        for name, (begin, _) in begins.items()
    )
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)
    assert len(a) != len(c) or np.abs(a - c).max() > 1e-3


def test_constant_arrivals_are_even() -> None:
    found = times(campaign({"kind": "constant", "rate": 3, "from_s": 10, "until_s": 90}))
    assert len(found) == 240
    assert found[0] == 10
    np.testing.assert_allclose(np.diff(found), 1 / 3, atol=1e-9)


def test_constant_arrivals_are_even_over_many_stretches() -> None:
    rate = arrivals.STRETCH * 0.7
    found = times(campaign({"kind": "constant", "rate": rate}, seconds=4))
    np.testing.assert_allclose(found, np.arange(len(found)) / rate, atol=1e-9)
    assert len(found) == 4 * rate


def test_poisson_gaps_are_exponential() -> None:
    gaps = np.diff(times(campaign({"kind": "poisson", "rate": 200})))
    for quantile in (0.1, 0.5, 0.9, 0.99):
        share = float(np.mean(gaps <= -math.log(1 - quantile) / 200))
        assert abs(share - quantile) < SIX_SIGMA * math.sqrt(quantile * (1 - quantile) / len(gaps))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ({"kind": "ramp", "start": 0, "end": 400}, [50, 150, 250, 350]),
        ({"kind": "step", "rates": [100, 0, 300, 50]}, [100, 0, 300, 50]),
        ({"kind": "spike", "rate": 20, "peak": 500, "at_s": 25, "for_s": 25}, [20, 500, 20, 20]),
        ({"kind": "day", "low": 20, "high": 300, "day_s": 100}, None),
        ({"kind": "day", "low": 300, "high": 300, "day_s": 7}, [300] * 4),
    ],
)
def test_rates_follow_their_shape(shape: dict[str, Any], expected: list[float] | None) -> None:
    declared = campaign(shape)
    counts = np.histogram(times(declared), bins=4, range=(0, 100))[0]
    if expected is None:
        edge = 160 - 140 * 2 / math.pi  # a raised cosine's mean over its first quarter
        expected = [edge, 320 - edge, 320 - edge, edge]
    for count, rate in zip(counts, expected, strict=True):
        assert abs(count - 25 * rate) <= SIX_SIGMA * math.sqrt(25 * rate + 1)


def test_a_day_repeats() -> None:
    declared = campaign({"kind": "day", "low": 0, "high": 100, "day_s": 50})
    assert arrivals.mean_rate(declared, 0) == pytest.approx(0)
    assert arrivals.mean_rate(declared, 25) == arrivals.mean_rate(declared, 75) == pytest.approx(100)


def test_the_mix_follows_weights_and_doors_get_even_shares() -> None:
    found = starts(campaign({"kind": "poisson", "rate": 200}), ("x", "y", "z", "w"))
    works, doors = (Counter(each) for each in zip(*((s.work.name, s.door) for s in found), strict=True))
    assert abs(works["a"] / len(found) - 0.75) < SIX_SIGMA * math.sqrt(0.75 * 0.25 / len(found))
    for door in "xyzw":
        assert abs(doors[door] / len(found) - 0.25) < SIX_SIGMA * math.sqrt(0.25 * 0.75 / len(found))


def test_mean_rates_of_all_streams_add_up() -> None:
    declared = campaign(
        {"kind": "poisson", "rate": 3, "site": "hub"},
        {"kind": "spike", "rate": 1, "peak": 9, "at_s": 5, "for_s": 5},
    )
    assert [arrivals.mean_rate(declared, at) for at in (0, 4.99, 5, 9.99, 10, 100)] == [4, 4, 12, 12, 4, 0]


class TestTraces:
    def test_recorded_arrivals_are_sorted_and_their_source_is_named(self) -> None:
        for name in traces.names():
            offsets = traces.trace(name)
            assert offsets[0] == 0
            assert np.all(np.diff(offsets) >= 0)
            assert "Licence: Creative Commons" in traces.source(name)
        assert len(traces.trace("azure-llm-2023-conv")) == 19_366

    def test_as_recorded(self) -> None:
        found = times(campaign({"kind": "trace", "trace": "azure-llm-2023-conv"}))
        recorded = traces.trace("azure-llm-2023-conv")
        np.testing.assert_array_equal(found, recorded[recorded < 100])

    def test_in_half_the_time(self) -> None:
        shape = {"kind": "trace", "trace": "azure-llm-2023-conv", "time_scale": 0.5, "from_s": 10}
        recorded = traces.trace("azure-llm-2023-conv")
        np.testing.assert_allclose(times(campaign(shape)), recorded[recorded < 180] / 2 + 10)

    @pytest.mark.parametrize("scale", [0.25, 1.5, 3])
    def test_arrivals_are_repeated_or_left_out(self, scale: float) -> None:
        shape = {"kind": "trace", "trace": "azure-llm-2023-conv", "rate_scale": scale}
        found = times(campaign(shape, seconds=3600))
        recorded = traces.trace("azure-llm-2023-conv")
        assert abs(len(found) - scale * len(recorded)) < SIX_SIGMA * math.sqrt(len(recorded))
        if scale >= 1:
            assert np.isin(recorded, found).all()  # copies come beside what was recorded, never in its stead
        else:
            assert np.isin(found, recorded).all()

    def test_it_ends_with_the_recording(self) -> None:
        shape = {"kind": "trace", "trace": "azure-llm-2023-conv", "time_scale": 0.01}
        assert len(times(campaign(shape))) == 19_366
        assert arrivals.mean_rate(campaign(shape), 36) == 0

    def test_an_unknown_one(self) -> None:
        declared = campaign({"kind": "trace", "trace": "azur"})
        with pytest.raises(UsageError, match="there is no trace `azur`") as caught:
            arrivals.schedule(declared, ["hub"])
        assert "azure-llm-2023-conv" in caught.value.hint


class TestScaled:
    @given(CAMPAIGNS, st.floats(0.2, 4))
    @settings(max_examples=20, deadline=None)
    def test_every_rate_is_multiplied(self, declared: Campaign, factor: float) -> None:
        scaled = arrivals.scaled(declared, factor)
        for at in np.linspace(0, 99.9, 37):
            before, after = (arrivals.mean_rate(each, float(at)) for each in (declared, scaled))
            assert after == pytest.approx(factor * before, rel=1e-6, abs=1e-9)
        assert Campaign.model_validate(scaled.model_dump(by_alias=True)) == scaled

    def test_a_shorter_one_keeps_its_shape_and_rates(self) -> None:
        declared = campaign(
            {"kind": "spike", "rate": 10, "peak": 90, "at_s": 40, "for_s": 20},
            {"kind": "day", "low": 1, "high": 9, "day_s": 50, "from_s": 50},
            {"kind": "ramp", "start": 1, "end": 9, "until_s": 50},
            {"kind": "step", "rates": [1, 2, 3]},
            warm_up_s=10,
            events=[{"at_s": 60, "do": "cut", "site": "hub"}],
        )
        short = arrivals.scaled(declared, 1, seconds=20)
        assert (short.seconds, short.warm_up_s, short.events[0].at_s) == pytest.approx((20, 2, 12))
        for at in np.linspace(0.1, 99.9, 37):
            assert arrivals.mean_rate(short, at / 5) == pytest.approx(arrivals.mean_rate(declared, at))

    def test_a_shorter_trace_keeps_its_rate(self) -> None:
        declared = campaign({"kind": "trace", "trace": "azure-llm-2023-conv", "time_scale": 0.02})
        short = arrivals.scaled(declared, 1, seconds=20)
        assert len(starts(short)) == pytest.approx(len(starts(declared)) / 5, rel=0.05)

    @pytest.mark.parametrize(("factor", "seconds"), [(0, None), (-1, None), (1, 0), (1, -3)])
    def test_nothing_is_scaled_to_nothing(self, factor: float, seconds: float | None) -> None:
        with pytest.raises(ValueError, match="cannot scale"):
            arrivals.scaled(campaign({"kind": "poisson", "rate": 1}), factor, seconds=seconds)


def test_a_site_that_is_no_target_is_named() -> None:
    declared = campaign({"kind": "poisson", "rate": 1, "site": "studio"})
    with pytest.raises(UsageError, match="sends to site `studio`") as caught:
        arrivals.schedule(declared, ["hub", "edge"])
    assert "hub, edge" in caught.value.hint
    with pytest.raises(UsageError, match="no front door"):
        arrivals.schedule(campaign({"kind": "poisson", "rate": 1}), [])


def test_a_week_is_drawn_as_it_is_needed() -> None:
    declared = campaign({"kind": "poisson", "rate": 10_000}, seconds=7 * 86_400)
    first = list(itertools.islice(arrivals.schedule(declared, ["hub"]), 1000))
    assert first[-1].at < 1


def test_no_rate_is_no_arrival() -> None:
    assert starts(campaign({"kind": "ramp", "start": 0, "end": 0})) == []
