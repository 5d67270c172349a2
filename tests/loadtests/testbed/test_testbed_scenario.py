"""Scenarios as they are declared, and as campaigns."""

from __future__ import annotations

from collections import Counter

import pytest
import yaml

from loadtests.arrivals import schedule
from loadtests.testbed import scenario as scenarios
from loadtests.testbed.load import campaign, stretches, turns
from loadtests.testbed.scenario import Scenario
from models.errors import DeclarationError, UsageError

DECLARED = {
    "scenario": "trial",
    "title": "Two sites.",
    "sites": {"hub": {"copies": 4, "speed": 2}, "van": {}},
    "models": {"clip": {"mean_ms": 100}, "page": {"mean_ms": 50, "max_batch": 4, "row_share": 0.5}},
    "links": {"van-hub": {"rtt_ms": 80}},
    "traffic": [
        {"model": "clip", "share": 1, "p99_ms": 500},
        {"model": "page", "share": 3, "class": "live", "p99_ms": 300},
    ],
    "cells": [
        {
            "name": "skewed",
            "load": 0.5,
            "ingress": {"van": 3, "hub": 1},
            "seconds": 10,
            "rounds": 2,
            "policies": ["waterfall", "static", "round-robin"],
            "moving": True,
        }
    ],
}


def declared(**changes: object) -> Scenario:
    return Scenario.parse(yaml.safe_dump({**DECLARED, **changes}), where="the test")


@pytest.mark.parametrize("name", scenarios.shipped())
def test_what_is_shipped_is_valid_and_makes_campaigns(name):
    found = scenarios.find(name)
    assert found.scenario == name
    assert found.short
    for cell in found.cells:
        assert campaign(found, cell).seconds == (cell.seconds + cell.calm_s) * len(stretches(cell))


def test_capacity_is_what_batches_copies_and_speed_allow():
    found = declared()
    assert found.capacity("hub", "clip") == pytest.approx(4 * 2 / 0.1)
    assert found.capacity("van", "page") == pytest.approx(4 / (0.05 * 2.5))


def test_rates_fill_the_asked_share_of_the_sites_time():
    found = declared()
    rates = found.rates(found.cells[0])
    assert rates[1] == pytest.approx(3 * rates[0])
    busy = sum(
        rate / sum(found.capacity(site, stream.model) for site in found.sites)
        for rate, stream in zip(rates, found.traffic, strict=True)
    )
    assert busy == pytest.approx(0.5)


def test_a_link_is_the_same_from_both_ends():
    found = declared()
    assert found.between("hub", "van") == found.between("van", "hub")
    assert found.between("hub", "van").rtt_ms == 80


def test_each_round_begins_with_another_policy_and_all_have_their_turns():
    (cell,) = declared().cells
    found = stretches(cell)
    assert [one.policy for one in found[:3]] == ["waterfall", "static", "round-robin"]
    assert found[3].policy == "static"
    assert set(Counter(one.policy for one in found).values()) == {2}
    assert [one.begin for one in found] == [0, 10, 20, 30, 40, 50]


def test_all_policies_of_a_round_get_the_same_arrivals_and_rounds_differ():
    found = declared()
    (cell,) = found.cells
    sent = list(schedule(campaign(found, cell), list(found.sites)))
    at = [
        [start.at - one.begin for start in sent if one.begin <= start.at < one.begin + cell.seconds]
        for one in stretches(cell)
    ]
    what = [
        [(start.door, start.work.name) for start in sent if one.begin <= start.at < one.begin + cell.seconds]
        for one in stretches(cell)
    ]
    for first, others in ((0, (1, 2)), (3, (4, 5))):
        for other in others:
            assert what[other] == what[first]
            assert at[other] == pytest.approx(at[first], abs=1e-9)
    assert what[3] != what[0]


def test_a_moving_ingress_visits_every_site_in_each_stretch():
    found = declared()
    assert turns(found, found.cells[0]) == [{"van": 3, "hub": 1}, {"van": 1, "hub": 3}]
    arrivals = campaign(found, found.cells[0]).arrivals
    # Six stretches, two places, two sites, two streams.
    assert len(arrivals) == 6 * 2 * 2 * 2
    assert {(one.until_s or 0) - one.from_s for one in arrivals} == {5}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"links": {"hub-moon": {}}}, "hub-moon"),
        ({"short": ["none"]}, "none"),
        ({"traffic": [{"model": "other", "p99_ms": 1}]}, "other"),
        ({"cells": [{"name": "a", "load": 1, "seconds": 1, "of": ["moon"]}]}, "moon"),
        ({"cells": [{"name": "a", "load": 1, "seconds": 1, "policies": ["least-request"]}]}, "three sites"),
        (
            {
                "cells": [
                    {
                        "name": "a",
                        "load": 1,
                        "seconds": 1,
                        "faults": [{"do": "sigkill", "site": "hub", "at_s": 0}],
                    }
                ]
            },
            "part",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes, said):
    with pytest.raises(DeclarationError, match=said):
        declared(**changes)


def test_an_unknown_cell_or_scenario_is_told_with_those_there_are():
    with pytest.raises(UsageError, match="skewed"):
        declared().cell("even")
    with pytest.raises(DeclarationError, match="loss"):
        scenarios.find("gain")
