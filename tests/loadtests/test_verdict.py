"""What holds, what does not, and what cannot be told."""

from __future__ import annotations

from typing import Any

import pytest

from loadtests.results import Judged, Result
from loadtests.verdict import headline, judge
from tests.loadtests.made_runs import WELL, Answer, lognormal, made, record, small


def objectives(**given: Any) -> dict[str, Any]:
    return {"objectives": given}


def by_name(result: Result) -> dict[str, Judged]:
    return {each.objective: each for each in result.judged}


def failing(share: float, outcome: str = "refused") -> Answer:
    def answer(start: Any, random: Any) -> Any:
        if random.random() < share:
            return record(start, 0.01, outcome=outcome, site="", detail="HTTP 429: full")
        return record(start, 0.04)

    return answer


def test_held() -> None:
    result = made(small(), lognormal())
    assert result.verdict == "held"
    assert [each.objective for each in result.judged] == [
        "interactive p50", "interactive p99", "error rate", "goodput",
    ]  # fmt: skip
    assert all(each.held for each in result.judged)
    assert headline(result) == "All 4 objectives held"


def test_values_come_from_the_histograms_of_the_class() -> None:
    result = made(small(), lognormal())
    value = by_name(result)["interactive p99"].value
    assert value == result.histogram("response").percentile_ms(99)
    assert value == pytest.approx(80, rel=0.2)


def test_one_missed_objective_misses_the_campaign() -> None:
    result = made(small(), lognormal(median_s=0.2))
    assert result.verdict == "missed"
    assert [name for name, each in by_name(result).items() if not each.held] == [
        "interactive p50", "interactive p99", "goodput",
    ]  # fmt: skip
    assert headline(result) == "Missed: interactive p50, interactive p99, goodput"


@pytest.mark.parametrize("outcome", ["refused", "wrong", "timeout", "not-sent"])
def test_whatever_was_not_answered_rightly_is_an_error(outcome: str) -> None:
    result = made(small(), failing(0.05, outcome))
    error_rate = by_name(result)["error rate"]
    assert not error_rate.held
    assert error_rate.value == pytest.approx(0.05, abs=0.02)


def test_goodput_counts_what_was_offered() -> None:
    slow_tenth = lambda start, random: record(start, 0.5 if random.random() < 0.1 else 0.04)  # noqa: E731
    goodput = by_name(made(small(), slow_tenth))["goodput"]
    assert goodput.value == pytest.approx(0.9, abs=0.02)
    assert not goodput.held


def test_character_errors_are_over_all_characters() -> None:
    campaign = small(**objectives(character_error_rate=0.1))
    result = made(campaign, lambda start, _: record(start, 0.04, edits=1, characters=20))
    (judged,) = result.judged
    assert (judged.value, judged.held, judged.unit) == (pytest.approx(0.05), True, "share")


def test_the_limit_itself_holds() -> None:
    result = made(small(**objectives(error_rate=0.0)), lognormal())
    assert result.verdict == "held"


def test_warm_up_is_not_judged() -> None:
    campaign = small(warm_up_s=30)
    result = made(campaign, lambda start, _: record(start, 5 if start.at < 30 else 0.04))
    assert result.verdict == "held"


@pytest.mark.parametrize(
    "objective",
    [
        {"classes": {"live": {"p99_ms": 100}}},
        {"character_error_rate": 0.1},
    ],
)
def test_what_was_not_measured_does_not_hold(objective: dict[str, Any]) -> None:
    result = made(small(objectives=objective), lognormal())
    assert result.verdict == "missed"
    assert result.judged[0].value is None


def test_nothing_sent() -> None:
    result = made(small(rate=1e-9), lognormal())
    assert result.verdict == "missed"
    assert headline(result) == "Missed: no request was judged"


def test_a_poor_generator_gives_no_verdict_but_figures() -> None:
    starved = WELL.model_copy(update={"problems": ["A worker used 99% of its core."]})
    for answer in (lognormal(), failing(0.5)):
        result = made(small(), answer, generator=starved)
        assert result.verdict == "invalid"
        assert result.judged
        assert headline(result) == "Invalid: the generator was the bottleneck"


def test_a_run_that_was_cut_short_gives_no_verdict() -> None:
    result = made(small(), lognormal(), until=20)
    assert result.verdict == "none"
    assert headline(result) == "No verdict: the run was interrupted"
    limited = result.model_copy(update={"ended_by": "requests"})
    assert headline(limited) == "No verdict: the limit of requests ended the run"


def test_a_campaign_without_objectives_gives_no_verdict() -> None:
    result = made(small(objectives={}), lognormal())
    assert (result.verdict, result.judged) == ("none", [])
    assert headline(result) == "No verdict: the campaign has no objectives"


def test_judging_again_changes_nothing() -> None:
    result = made(small(), lognormal())
    assert judge(result) == result
