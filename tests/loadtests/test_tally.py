"""Tallies: workers' counts add up to the whole's, whatever way they come; what is kept is a fair sample."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests import tally as module
from loadtests.campaign import Campaign
from loadtests.histogram import Histogram
from loadtests.results import Outcome, total
from loadtests.tally import SAMPLE_COLUMNS, Record, Tally

CLASSES = {"a": "live", "b": "batch"}


def campaign(**changes: Any) -> Campaign:
    work = {"model": "ppocr-cls", "client": "http", "input": "text-lines"}
    base: dict[str, Any] = {
        "campaign": "test",
        "title": "T",
        "seconds": 240,
        "warm_up_s": 10,
        "workload": [{"name": name, "class": class_, **work} for name, class_ in CLASSES.items()],
        "arrivals": [{"kind": "poisson", "rate": 1}],
        "objectives": {"classes": {"live": {"p99_ms": 100}}},
    }
    return Campaign.model_validate(base | changes)


def record(**changes: Any) -> Record:
    base: dict[str, Any] = {
        "work": "a",
        "class_": "live",
        "door": "hub",
        "site": "hub",
        "intended": 20.0,
        "sent": 20.01,
        "ended": 20.06,
        "outcome": "ok",
    }
    return Record(**(base | changes))


OUTCOMES = st.sampled_from(["ok", "ok", "ok", "wrong", "refused", "timeout", "not-sent"])


@st.composite
def records(draw: st.DrawFn) -> Record:
    work = draw(st.sampled_from(["a", "b"]))
    outcome: Outcome = draw(OUTCOMES)
    intended = draw(st.floats(0, 239))
    sent = intended + draw(st.floats(0, 1))
    return record(
        work=work,
        class_=CLASSES[work],
        door=draw(st.sampled_from(["hub", "edge"])),
        site="" if outcome == "not-sent" else draw(st.sampled_from(["hub", "edge"])),
        intended=intended,
        sent=sent,
        ended=sent + draw(st.floats(0, 10)),
        outcome=outcome,
        attempts=draw(st.integers(1, 3)),
        detail="" if outcome == "ok" else f"{outcome} of {work}",
        edits=draw(st.integers(0, 3)),
        characters=10,
    )


def counted(found: list[Record]) -> Tally:
    tally = Tally(campaign())
    for each in found:
        tally.add(each)
    return tally


def seen(tally: Tally) -> dict[str, Any]:
    errors = sorted((each.model_dump() for each in tally.errors()), key=lambda each: str(each["outcome"]))
    return {
        "series": tally.series(),
        "slices": tally.slices(),
        "errors": sorted(errors, key=lambda each: (each["outcome"], each["work"])),
        "sample": sorted(tally.sample()),
        "sent": tally.sent,
    }


@given(st.lists(st.lists(records(), max_size=20), max_size=4))
@settings(max_examples=60, deadline=None)
def test_merge_equals_whole(parts: list[list[Record]]) -> None:
    whole = counted([each for part in parts for each in part])
    merged = Tally(campaign())
    for part in parts:
        # As it travels between a worker and its master.
        dump = msgpack.unpackb(msgpack.packb(counted(part).dump()), strict_map_key=False)
        merged.add_dump(dump)
    assert seen(merged) == seen(whole)


def test_the_order_of_workers_does_not_matter() -> None:
    random = np.random.default_rng(1)
    dumps = [
        counted(
            [
                record(intended=float(at), sent=float(at), ended=float(at) + 1)
                for at in random.uniform(0, 200, 30)
            ]
        ).dump()
        for _ in range(3)
    ]
    one, other = Tally(campaign()), Tally(campaign())
    for dump in dumps:
        one.add_dump(dump)
    for dump in reversed(dumps):
        other.add_dump(dump)
    assert seen(one) == seen(other)


def test_a_series_says_what_came_of_its_requests() -> None:
    tally = counted(
        [
            record(),
            record(ended=20.5, attempts=2, edits=1, characters=8),
            record(outcome="wrong", detail="other words", ended=99, edits=8, characters=8),
            record(site="edge"),
        ]
    )
    mine, edge = sorted(tally.series(), key=lambda each: each.site, reverse=True)
    assert (mine.work, mine.class_, mine.door, mine.site) == ("a", "live", "hub", "hub")
    assert (mine.outcomes, mine.sent, mine.right) == ({"ok": 2, "wrong": 1}, 3, 2)
    assert mine.within == 1  # one of two within 100 ms
    assert (mine.attempts, mine.edits, mine.characters) == (4, 9, 16)
    assert (edge.site, edge.sent) == ("edge", 1)
    assert total(tally.series(), "ok") == 3


def test_response_counts_from_the_intended_start_and_service_from_the_sending() -> None:
    (series,) = counted([record(intended=20, sent=22, ended=22.5)]).series()
    assert Histogram.decode(series.response).max_ms == pytest.approx(2500, rel=1e-3)
    assert Histogram.decode(series.service).max_ms == pytest.approx(500, rel=1e-3)


def test_without_an_objective_all_that_is_right_is_within() -> None:
    (series,) = counted([record(work="b", class_="batch", ended=90)]).series()
    assert series.within == 1


def test_the_warm_up_is_drawn_but_not_judged() -> None:
    tally = counted([record(intended=9.9, sent=9.9, ended=11), record(intended=10, sent=10, ended=11)])
    assert [each.sent for each in tally.series()] == [1]
    assert sum(each.sent for each in tally.slices()) == 2
    assert tally.sent == 2
    assert len(tally.sample()) == 2


def test_slices_belong_to_the_intended_start() -> None:
    tally = counted(
        [record(intended=3.9, sent=4, ended=30), record(intended=4.1, sent=5, ended=4.2, outcome="timeout")]
    )
    first, second = tally.slices()
    assert (first.at_s, first.seconds, first.sent, first.right) == (2, 2, 1, 1)
    assert first.p50_ms == first.max_ms == pytest.approx(26_100, rel=1e-5)
    assert (second.at_s, second.sent, second.right, second.p99_ms) == (4, 1, 0, 0)


@pytest.mark.parametrize(("seconds", "width"), [(20, 1), (240, 2), (7 * 86_400, 5040)])
def test_a_run_of_any_length_has_a_readable_number_of_slices(seconds: float, width: float) -> None:
    assert Tally(campaign(seconds=seconds)).width_s == width


def test_errors_are_counted_by_kind_with_the_first_as_example() -> None:
    tally = counted(
        [
            record(outcome="refused", detail="second", intended=30),
            record(outcome="refused", detail="first" + "x" * 900, intended=25),
            record(outcome="timeout", detail="late", intended=40),
            record(),
        ]
    )
    refused, late = tally.errors()
    assert (refused.outcome, refused.count, refused.first_at_s) == ("refused", 2, 25)
    assert refused.example.startswith("first")
    assert len(refused.example) == module.EXAMPLE
    assert (late.outcome, late.work, late.count) == ("timeout", "a", 1)


def test_all_requests_are_kept_while_there_are_few() -> None:
    tally = counted([record(intended=float(at)) for at in (5, 3, 4)])
    at = SAMPLE_COLUMNS.index("intended")
    assert [row[at] for row in tally.sample()] == [3, 4, 5]
    assert dict(zip(SAMPLE_COLUMNS, tally.sample()[0], strict=True))["site"] == "hub"


def test_the_sample_is_fair_over_time_and_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE", 1000)
    merged = Tally(campaign())
    # One worker has counted three times as many as the other: it is due three quarters of the sample.
    for door, number in (("hub", 9000), ("edge", 3000)):
        worker = counted([record(door=door, intended=200 * at / number) for at in range(number)])
        assert len(worker.sample()) == 1000
        merged.add_dump(worker.dump())
    rows = [dict(zip(SAMPLE_COLUMNS, row, strict=True)) for row in merged.sample()]
    assert len(rows) == 1000
    assert abs(Counter(row["door"] for row in rows)["hub"] - 750) < 6 * (1000 * 0.75 * 0.25) ** 0.5
    for quarter in range(4):
        share = sum(50 * quarter <= row["intended"] < 50 * (quarter + 1) for row in rows)
        assert abs(share - 250) < 6 * (1000 * 0.25 * 0.75) ** 0.5


def test_a_dump_is_plain_enough_to_travel() -> None:
    dump = counted([record(), record(outcome="wrong", detail="ä")]).dump()
    assert msgpack.unpackb(msgpack.packb(dump), strict_map_key=False) == dump
    json.dumps({key: value for key, value in dump.items() if key != "right"})
