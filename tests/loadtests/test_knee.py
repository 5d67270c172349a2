"""The search for the knee, on servers whose knee is known."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.knee import CONFIDENCE, LEAP, TRIES, Knee, Step, Stop, search

MU, OBJECTIVE_S = 20.0, 0.5
DECAY = math.log(100) / OBJECTIVE_S
"""An exponential response time that decays so fast has its p99 at the objective."""
Serve = Callable[[np.random.Generator, float, int], np.ndarray]


def sharp(truth: float, ceiling: float = math.inf) -> Callable[[float], Step]:
    """A server without noise, and a generator that can do no more than `ceiling`."""
    return lambda rate: Step(rate, "unknown" if rate >= ceiling else "held" if rate <= truth else "missed")


def contains(knee: Knee[Step], truth: float) -> bool:
    return (knee.at_least or 0) <= truth <= (knee.below or math.inf)


@settings(deadline=None, max_examples=40)
@given(
    truth=st.floats(0.05, 5_000),
    off=st.floats(-4, 4),
    width=st.sampled_from([0.05, 0.1, 0.3]),
)
def test_a_sharp_knee_is_found_to_the_width_that_was_asked(truth, off, width):
    knee = search(sharp(truth), truth * math.exp(off), lowest=truth / 100, width=width, steps=60)
    assert knee.ended == "width"
    assert contains(knee, truth)
    assert knee.below <= knee.at_least * (1 + width) * 1.01
    assert knee.at_least <= knee.rate <= knee.below
    assert len(knee.steps) <= 40


@settings(deadline=None, max_examples=30)
@given(truth=st.floats(0.05, 5_000), off=st.floats(-4, 4), steps=st.integers(1, 12))
def test_few_steps_give_a_wide_interval_and_none_leaps_far_beyond_what_held(truth, off, steps):
    knee = search(sharp(truth), truth * math.exp(off), lowest=truth / 100, steps=steps)
    assert len(knee.steps) <= steps
    assert contains(knee, truth)
    for number, step in enumerate(knee.steps[1:], 1):
        before = knee.steps[:number]
        held = [each.rate for each in before if each.outcome == "held"]
        missed = [each.rate for each in before if each.outcome == "missed"]
        assert min(missed, default=0) / LEAP * 0.999 <= step.rate
        assert step.rate <= max(held or missed) * LEAP * 1.001


@settings(deadline=None, max_examples=30)
@given(start=st.floats(0.1, 100), above=st.floats(1.1, 50))
def test_where_the_generator_can_do_no_more_the_answer_is_at_least(start, above):
    ceiling = start * above
    knee = search(sharp(math.inf, ceiling), start, lowest=start / 10)
    assert knee.ended == "generator"
    assert knee.below is None
    assert knee.rate is None
    assert ceiling / 2 <= knee.at_least < ceiling
    assert all(step.rate < LEAP * ceiling for step in knee.steps)


def test_a_knee_below_the_generators_ceiling_is_found():
    knee = search(sharp(40, ceiling=90), 10, lowest=1, steps=60)
    assert knee.ended == "width"
    assert contains(knee, 40)


def test_one_step_that_the_generator_spoiled_is_tried_again():
    spoiled = []

    def probe(rate: float) -> Step:
        if rate == 4 and len(spoiled) < TRIES - 1:
            spoiled.append(rate)
            return Step(rate, "unknown")
        return sharp(40)(rate)

    knee = search(probe, 4, lowest=1, steps=60)
    assert spoiled
    assert knee.ended == "width"
    assert contains(knee, 40)


def test_a_generator_that_can_do_nothing_leaves_nothing_known():
    knee = search(sharp(math.inf, ceiling=0), 10, lowest=1)
    assert (knee.rate, knee.at_least, knee.below, knee.ended) == (None, None, None, "lowest")


def test_what_never_holds_is_below_the_lowest_load():
    knee = search(sharp(0), 10, lowest=1)
    assert knee.ended == "lowest"
    assert knee.at_least is None
    assert knee.below <= 1.01
    assert min(step.rate for step in knee.steps) == 1


def test_what_never_misses_is_at_least_the_highest_that_was_tried():
    knee = search(sharp(math.inf), 1, lowest=0.1, steps=10)
    assert knee.ended == "steps"
    assert (knee.at_least, knee.below) == (2**9, None)
    assert search(sharp(math.inf), 1, lowest=0.1, steps=100).ended == "highest"


def test_a_stop_keeps_what_was_found():
    heard: list[Knee[Step]] = []

    def probe(rate: float) -> Step:
        if len(heard) == 6:
            raise Stop
        return sharp(10)(rate)

    knee = search(probe, 4, lowest=1, tell=heard.append)
    assert knee.ended == "stopped"
    assert len(knee.steps) == len(heard) == 6
    assert contains(knee, 10)
    assert heard[-1].at_least == knee.at_least


@pytest.mark.parametrize("odd", [0, 1, 2, 3, 5, 8])
def test_one_contradicting_step_is_outvoted(odd):
    done = []

    def probe(rate: float) -> Step:
        done.append(rate)
        held = (rate <= 10) != (len(done) - 1 == odd)
        return Step(rate, "held" if held else "missed")

    knee = search(probe, 3, lowest=0.3, steps=60)
    assert contains(knee, 10)
    assert knee.below <= knee.at_least * 1.12


def one_server(rng: np.random.Generator, gaps: np.ndarray) -> np.ndarray:
    """Response times of a first-come first-served server (Lindley's recursion)."""
    service = rng.exponential(1 / MU, len(gaps))
    walk = np.cumsum(np.concatenate([[0], service[:-1] - gaps[1:]]))
    return walk - np.minimum.accumulate(walk) + service


def mm1(rng: np.random.Generator, rate: float, number: int) -> np.ndarray:
    return one_server(rng, rng.exponential(1 / rate, number))


def dm1(rng: np.random.Generator, rate: float, number: int) -> np.ndarray:
    return one_server(rng, np.full(number, 1 / rate))


def mm3(rng: np.random.Generator, rate: float, number: int) -> np.ndarray:
    """Three servers, each a third as fast."""
    arrivals = np.cumsum(rng.exponential(1 / rate, number)).tolist()
    service = rng.exponential(3 / MU, number).tolist()
    free, responses = [0.0] * 3, []
    for at, lasts in zip(arrivals, service, strict=True):
        end = max(at, free[0]) + lasts
        heapq.heapreplace(free, end)
        responses.append(end - at)
    return np.array(responses)


def mm3_p99_s(rate: float) -> float:
    """Erlang's formula: who waits, waits exponentially; the response is that and one service."""
    offered, each = rate * 3 / MU, MU / 3
    busy = offered**3 / 6 / (1 - offered / 3)
    waits = busy / (1 + offered + offered**2 / 2 + busy)
    faster = 3 * each - rate
    low, high = 0.0, 1_000.0
    for _ in range(60):
        at = (low + high) / 2
        late = math.exp(-each * at) + waits * each / (each - faster) * (
            math.exp(-faster * at) - math.exp(-each * at)
        )
        low, high = (at, high) if late > 0.01 else (low, at)
    return low


def knee_of(p99_s: Callable[[float], float], objective_s: float) -> float:
    low, high = 0.01, MU * 0.9999
    for _ in range(60):
        rate = (low + high) / 2
        low, high = (rate, high) if p99_s(rate) <= objective_s else (low, rate)
    return low


@pytest.mark.parametrize(
    ("serve", "objective_s", "truth", "seeds"),
    [
        pytest.param(mm1, OBJECTIVE_S, MU - DECAY, 40, id="M/M/1"),
        # GI/M/1: the response decays with MU (1 - s), where s = exp(-MU (1 - s) / rate).
        pytest.param(dm1, OBJECTIVE_S, -DECAY / math.log(1 - DECAY / MU), 40, id="D/M/1"),
        pytest.param(mm3, 1.0, knee_of(mm3_p99_s, 1.0), 20, id="M/M/3"),
    ],
)
@pytest.mark.parametrize("hiccups", [0.0, 0.05])
def test_the_interval_contains_the_knee_of_a_queue_as_often_as_it_says(
    serve: Serve, objective_s, truth, seeds, hiccups
):
    found = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)

        def probe(rate: float, rng: np.random.Generator = rng) -> Step:
            late = np.percentile(serve(rng, rate, 8_000)[1_000:], 99) > objective_s
            return Step(rate, "missed" if late or rng.random() < hiccups else "held")

        found.append(search(probe, truth * math.exp(rng.uniform(-2, 1)), lowest=truth / 50))
    covered = np.mean([contains(knee, truth) for knee in found])
    assert covered >= CONFIDENCE - 2 * math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / seeds)
    assert np.median([knee.below / knee.at_least for knee in found]) < 1.35
    assert max(len(knee.steps) for knee in found) <= 24
