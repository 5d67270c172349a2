"""What changed is found, what did not is not, and what cannot be compared is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from loadtests.comparison import Comparison, bootstrap, command, compare
from loadtests.results import Result
from models.errors import UsageError
from tests.loadtests.made_runs import DIRECTION, WELL, Answer, made, record, small


def wandering(factor: float = 1.0, *, fail: float = 0.002, wander: float = 0.1) -> Answer:
    """Lognormal around a median that wanders every three seconds."""
    moods: dict[int, float] = {}

    def answer(start: Any, random: np.random.Generator) -> Any:
        mood = moods.setdefault(int(start.at / 3), float(np.exp(wander * random.normal())))
        if random.random() < fail:
            return record(start, 0.01, site="", outcome="refused", detail="full")
        return record(start, float(0.04 * factor * mood * np.exp(0.4 * random.normal())))

    return answer


def runs(answer: Answer, draw: int, many: int = 1, **campaign: Any) -> list[Result]:
    return [
        made(small(**({"rate": 30} | campaign)), answer, seed=draw + number, run=f"run-{draw + number}")
        for number in range(many)
    ]


def figures(found: Comparison) -> dict[str, Any]:
    return {one.name: one for one in found.ratios}


def test_no_difference_is_an_answer() -> None:
    found = compare(runs(wandering(), 1), runs(wandering(), 100))
    assert found.verdict == "none"
    assert found.words.startswith("No difference shown; one of this size would have been: p50 ")
    assert all(one.low <= 1 <= one.high for one in found.ratios if one.decides)


def test_a_run_against_itself() -> None:
    one = runs(wandering(), 1)
    found = compare(one, one)
    assert found.verdict == "none"
    assert {ratio.ratio for ratio in found.ratios} == {1.0}


def test_slower() -> None:
    found = compare(runs(wandering(), 1), runs(wandering(1.4), 100))
    assert found.verdict == "worse"
    assert found.words.startswith("B is slower: p50 1.")
    p50 = figures(found)["p50"]
    assert p50.low < 1.4 < p50.high
    assert p50.a < p50.b


def test_faster() -> None:
    found = compare(runs(wandering(1.4), 1), runs(wandering(), 100))
    assert found.verdict == "better"
    assert found.words.startswith("B is faster: p50 0.")


def test_losing_more() -> None:
    found = compare(runs(wandering(), 1), runs(wandering(fail=0.1), 100))
    assert found.verdict == "worse"
    assert found.words.startswith("B loses more: errors ")
    assert figures(found)["goodput"].ratio < 1


def test_failures_of_none_are_no_certainty() -> None:
    found = compare(runs(wandering(fail=0), 1), runs(wandering(fail=0.001), 100))
    assert figures(found)["errors"].change == "none"


def test_both_without_failures() -> None:
    found = compare(runs(wandering(fail=0), 1), runs(wandering(fail=0), 100))
    assert "errors" not in figures(found)
    assert "No request failed in either." in found.notes


def test_a_slower_class_does_not_hide() -> None:
    works = [DIRECTION, DIRECTION | {"name": "rare", "class": "live", "weight": 0.1}]

    def answer(factor: float) -> Answer:
        def of(start: Any, random: np.random.Generator) -> Any:
            slower = factor if start.work.class_ == "live" else 1.0
            return record(start, float(0.04 * slower * np.exp(0.3 * random.normal())))

        return of

    campaign = {"workload": works, "rate": 60}
    found = compare(runs(answer(1), 1, **campaign), runs(answer(2), 100, **campaign))
    assert found.verdict == "worse"
    assert found.words.startswith("B is slower: live p50 ")
    assert figures(found)["interactive p50"].change == "none"


def test_rounds_are_paired() -> None:
    """The machine gets three times slower from round to round, and still 10% are seen."""
    drift = [1.0, 1.3, 1.7, 2.1, 2.6, 3.0]
    a = [runs(wandering(each), 10 + n, rate=60)[0] for n, each in enumerate(drift)]
    b = [runs(wandering(each * 1.1), 50 + n, rate=60)[0] for n, each in enumerate(drift)]
    found = compare(a, b)
    assert found.method == "bootstrap over 6 paired rounds"
    assert figures(found)["p50"].change == "worse"
    assert figures(found)["p50"].low < 1.1 < figures(found)["p50"].high


def test_a_run_that_answered_nothing() -> None:
    dead = runs(lambda start, _: record(start, 1, site="", outcome="connection", detail="refused"), 100)
    found = compare(runs(wandering(), 1), dead)
    assert found.verdict == "worse"
    assert set(figures(found)) == {"errors"}


@pytest.mark.parametrize("rounds", [3, 6, 10])
def test_intervals_of_few_rounds_hold_as_often_as_they_say(rounds: int) -> None:
    random = np.random.default_rng(5)
    weights = bootstrap.round_weights(rounds, np.random.default_rng(1))
    missed = 0
    for _ in range(400):
        seen = random.normal(size=rounds)
        spread = bootstrap.interval(weights @ seen / rounds - seen.mean(), rounds, 0.95)
        assert spread is not None
        missed += not seen.mean() + spread[0] <= 0 <= seen.mean() + spread[1]
    assert missed / 400 < 0.09


def test_students_t() -> None:
    # Tables: t(0.975, 2) = 4.303, t(0.975, 5) = 2.571, t(0.975, 30) = 2.042.
    for freedom, wanted in ((2, 4.303), (5, 2.571), (30, 2.042)):
        assert bootstrap.student(0.95, freedom) == pytest.approx(wanted, rel=0.01)


def test_neighbouring_stretches_are_taken_together() -> None:
    weights = bootstrap.block_weights(120, np.random.default_rng(1))
    assert weights.shape == (bootstrap.RESAMPLES, 120)
    assert (weights.sum(axis=1) == 120).all()
    # What is taken more often than on average, its neighbour mostly is too.
    assert np.mean((weights - 1) * (np.roll(weights, 1, axis=1) - 1)) > 0.5


def refused(a: list[Result], b: list[Result]) -> str:
    with pytest.raises(UsageError) as caught:
        compare(a, b)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_other_campaigns_are_refused() -> None:
    one = runs(wandering(), 1)
    assert "seed differ" in refused(one, runs(wandering(), 100, seed=2))
    assert "seconds and arrivals differ" in refused(one, runs(wandering(), 100, rate=10, seconds=50))


def test_a_title_is_no_difference() -> None:
    assert compare(runs(wandering(), 1), runs(wandering(), 100, title="Another")).verdict == "none"


def test_bad_runs_are_refused() -> None:
    one = runs(wandering(), 1)
    starved = WELL.model_copy(update={"problems": ["It used all of its core."]})
    assert "It used all of its core." in refused(one, [made(small(rate=30), wandering(), generator=starved)])
    assert "partial" in refused([made(small(rate=30), wandering(), until=30)], one)


def test_what_cannot_be_paired_is_refused() -> None:
    three = runs(wandering(), 1, 3, seconds=10)
    assert "cannot be paired" in refused(three, three[:2])
    assert "cannot be paired" in refused(three[:2], three[:2])
    assert "cannot be paired" in refused([], [])


def test_too_short_to_vary() -> None:
    assert "too short" in refused(runs(wandering(), 1, seconds=5), runs(wandering(), 2, seconds=5))


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(command)
    return app


def saved(result: Result, folder: Path) -> str:
    folder.mkdir()
    result.save(folder)
    return str(folder)


def test_the_command_prints_and_its_exit_code_says(app: typer.Typer, tmp_path: Path) -> None:
    a = saved(runs(wandering(), 1)[0], tmp_path / "a")
    b = saved(runs(wandering(1.4), 100)[0], tmp_path / "b")
    worse = CliRunner().invoke(app, [a, b])
    assert worse.exit_code == 1
    assert "B is slower" in worse.stdout
    assert CliRunner().invoke(app, [b, a]).exit_code == 0
    assert CliRunner().invoke(app, [a, a]).exit_code == 0
    found = json.loads(CliRunner().invoke(app, [a, b, "--json"]).stdout)
    assert found["verdict"] == "worse"
    assert Comparison.model_validate(found).a == ["run-1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one"], "two runs' folders"),
        (["smoke", "--target", "127.0.0.1:1"], "go together"),
        (["one", "two", "--target", "127.0.0.1:1", "--against", "127.0.0.1:2"], "give one campaign"),
        (["missing-a", "missing-b"], "No such file"),
    ],
)
def test_what_the_command_cannot_understand(app: typer.Typer, arguments: list[str], message: str) -> None:
    caught = CliRunner().invoke(app, arguments).exception
    assert isinstance(caught, UsageError)
    assert message in str(caught)
