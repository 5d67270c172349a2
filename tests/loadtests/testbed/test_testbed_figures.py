"""What single requests say of a fault and of a policy."""

from __future__ import annotations

import pytest
import yaml

from loadtests.testbed import report
from loadtests.testbed.drive import Outcome
from loadtests.testbed.figures import Request, by_policy, cost
from loadtests.testbed.scenario import Scenario
from models.errors import UsageError

SCENARIO = Scenario.parse(
    yaml.safe_dump(
        {
            "scenario": "trial",
            "title": "Two sites.",
            "sites": {"hub": {}, "van": {}},
            "models": {"clip": {"mean_ms": 100}},
            "traffic": [{"model": "clip", "p99_ms": 500}],
            "cells": [
                {
                    "name": "dark",
                    "load": 0.5,
                    "seconds": 30,
                    "faults": [{"do": "black-hole", "site": "van", "at_s": 10, "for_s": 10}],
                },
                {
                    "name": "dead",
                    "load": 0.5,
                    "seconds": 30,
                    "faults": [{"do": "sigkill", "site": "van", "part": "envoy", "at_s": 10}],
                },
                {
                    "name": "two",
                    "load": 0.5,
                    "seconds": 10,
                    "policies": ["static", "waterfall"],
                    "warm_up_s": 2,
                },
            ],
        }
    ),
    where="the test",
)


def request(at: float, ms: float = 100, outcome: str = "ok", door: str = "hub") -> Request:
    return Request("interactive", door, "hub", at, at + ms / 1e3, outcome, 1)


def steady(begin: float, end: float, ms: float = 100) -> list[Request]:
    return [request(begin + number / 10, ms) for number in range(round((end - begin) * 10))]


def dark(requests: list[Request]):
    cell = SCENARIO.cell("dark")
    return cost(SCENARIO, cell, cell.faults[0], requests)


def test_a_fault_that_nobody_noticed_costs_nothing():
    found = dark(steady(0, 30))
    assert (found.failed, found.recovered_s, found.healed_s) == (0, 0, 0)
    assert found.p99_before_ms == pytest.approx(100)
    assert found.requests == 200


def test_what_was_at_stake_is_what_the_site_answered_before():
    there = [Request("interactive", "hub", "van", at, at + 0.1, "ok", 1) for at in (1.0, 2.0, 15.0)]
    assert dark([*steady(0, 30), *there]).there_before == pytest.approx(2 / 102)
    assert dark(steady(0, 30)).there_before == 0


def test_it_is_over_after_the_last_window_that_was_slow():
    found = dark([*steady(0, 10), *steady(10, 13, 4000), *steady(13, 30)])
    assert (found.failed, found.recovered_s, found.healed_s) == (0, 3, 0)
    assert found.slowest_ms == pytest.approx(4000)


def test_a_swing_after_the_end_counts_from_the_end():
    found = dark([*steady(0, 22), *steady(22, 24, 4000), *steady(24, 30)])
    assert (found.recovered_s, found.healed_s) == (0, 4)


def test_failures_are_counted_by_what_they_were():
    found = dark([*steady(0, 30), request(12, outcome="refused"), request(12.1, outcome="timeout")])
    assert (found.failed, found.examples) == (2, {"refused": 1, "timeout": 1})


def test_nobody_can_help_the_clients_of_a_door_that_is_gone():
    cell = SCENARIO.cell("dead")
    lost = [request(11, outcome="connection", door="van"), request(11, outcome="connection", door="hub")]
    assert cost(SCENARIO, cell, cell.faults[0], [*steady(0, 30), *lost]).failed == 1


def test_policies_are_told_apart_by_when_requests_were_meant_to_start():
    rows = by_policy(SCENARIO, SCENARIO.cell("two"), [*steady(0, 10, 100), *steady(10, 20, 900)])
    found = {row.policy: row for row in rows}
    assert found["static"].mean_ms == pytest.approx(100)
    assert found["waterfall"].p99_ms == pytest.approx(900)
    # The first two of ten seconds are not counted.
    assert (found["static"].requests, found["static"].goodput, found["waterfall"].goodput) == (80, 1, 0)
    # Ten a second, of the twenty that both sites can answer.
    assert found["static"].of_capacity == pytest.approx(0.5)


def test_what_failed_counts_with_its_clients_time_limit():
    requests = [*steady(0, 10), *[request(5, outcome="refused") for _ in range(80)], *steady(10, 20)]
    found = {row.policy: row for row in by_policy(SCENARIO, SCENARIO.cell("two"), requests)}
    assert found["static"].failed == 80
    assert found["static"].mean_ms == pytest.approx((80 * 100 + 80 * 15_000) / 160)
    assert found["static"].goodput == pytest.approx(0.5)


def test_a_cell_of_several_rounds_compares_with_the_plan():
    cell = SCENARIO.cell("two").model_copy(update={"policies": ["plan", "static"], "rounds": 3})
    # Rounds begin with another policy each: plan, static, static, plan, plan, static.
    slow = (1, 2, 5)
    requests = [
        one
        for stretch in range(6)
        for one in steady(10 * stretch, 10 * stretch + 10, 200 if stretch in slow else 100)
    ]
    rows = {row.policy: row for row in by_policy(SCENARIO, cell, requests)}
    assert rows["plan"].mean_to_plan is None
    assert rows["static"].mean_to_plan.value == pytest.approx(2)
    assert rows["static"].p99_to_plan.low == pytest.approx(2)


def test_cells_that_were_run_one_by_one_make_one_report(tmp_path):
    def outcome(name: str, failed: int) -> Outcome:
        requests = [*steady(0, 30), *[request(12, outcome="refused")] * failed]
        cell = SCENARIO.cell(name)
        costs = [cost(SCENARIO, cell, fault, requests) for fault in cell.faults]
        return Outcome(name, by_policy(SCENARIO, cell, requests), costs, ["late"] * failed, 0.1)

    for outcomes in ([outcome("dead", 0)], [outcome("dark", 1)], [outcome("dark", 0)]):
        earlier = report.left_in(tmp_path, SCENARIO)
        results = report.Results.of(SCENARIO, outcomes)
        report.write(results.with_cells_of(earlier) if earlier else results, tmp_path)
    found = report.left_in(tmp_path, SCENARIO)
    assert [row.cell for row in found.figures] == ["dark", "dead"]
    assert [row.failed for row in found.costs] == [0, 0]
    assert found.problems == {}
    other = SCENARIO.model_copy(update={"title": "Another."})
    with pytest.raises(UsageError, match="not of this scenario"):
        report.left_in(tmp_path, other)
