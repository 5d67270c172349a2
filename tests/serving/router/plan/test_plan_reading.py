"""From what an agent has observed to the plan's problem."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from serving.fleet import Fleet
from serving.router.plan import plan
from serving.router.plan.members import Figures, member
from serving.router.plan.problem import Problem
from serving.router.plan.reading import FADE_S, FRESH_S, UNKNOWN_RTT_S, problem_of
from serving.router.telemetry.observed import Observed
from serving.router.telemetry.summary import PoolSummary, SiteSummary
from serving.router.view import Pool

CLS = Pool("model", "ppocr-cls")
FLEET = Fleet.model_validate(
    {
        "fleet": "made",
        "models": {"ppocr-cls": {"balancing": {"residency": ["eu"]}}},
        "sites": {
            "hub": {"front_door": "127.0.0.1:8080", "tags": ["eu"]},
            "edge": {"front_door": "127.0.0.1:8090", "tags": ["eu"], "uplink": {"mbit_s": 8}},
            "abroad": {"front_door": "127.0.0.1:8100"},
        },
    }
)


def heard(site: str, *, age_s: float = 0.2, links: dict[str, Any] | None = None, **pool: Any) -> Observed:
    said = {
        "kind": "model",
        "ready": True,
        "instances": 2,
        "max_batch": 4,
        "by_batch": {
            1: {"executions": 30.0, "mean_ms": 10.0, "cv2": 0.25},
            4: {"executions": 10.0, "mean_ms": 16.0, "cv2": 0.25},
        },
        "offered": {"live": 12.0},
        **pool,
    }
    summary = SiteSummary(
        fleet="made",
        site=site,
        boot="0" * 32,
        sequence=1,
        pools={"model.ppocr-cls": PoolSummary.model_validate(said)},
        links=links or {},
    )
    return Observed(summary, age_s=age_s, rtt_s=0.004)


def read(declared: dict[tuple[str, Pool], float] | None = None, **sites: Observed) -> Problem:
    return problem_of(FLEET, sites, "hub", declared or {})


def test_times_by_batch_become_a_line_and_its_capacity() -> None:
    one = read(hub=heard("hub"), edge=heard("edge")).pools[0].members[1]
    assert (one.site, one.instances, one.max_batch, one.cv2) == ("hub", 2, 4, 0.25)
    assert (one.single_s, one.full_s) == (pytest.approx(0.010), pytest.approx(0.016))
    assert one.capacity == pytest.approx(2 * 4 / 0.016)


def test_a_known_capacity_counts_more_than_times() -> None:
    one = read(hub=heard("hub", capacity=100.0)).pools[0].members[0]
    assert one.capacity == pytest.approx(100)


def test_residency_and_readiness_take_a_site_out() -> None:
    pool = read(hub=heard("hub"), edge=heard("edge", ready=False), abroad=heard("abroad")).pools[0]
    assert [one.site for one in pool.members] == ["hub"]
    assert pool.unmeasured == frozenset()
    assert pool.offered["live"].tolist() == [12.0, 12.0, 12.0]  # also clients of a site that may not answer


def test_a_site_never_heard_of_is_unmeasured_or_as_declared() -> None:
    assert read(hub=heard("hub")).pools[0].unmeasured == frozenset({"edge"})
    assert read(hub=heard("hub")).pools[0].untried == frozenset()
    pool = read({("edge", CLS): 40.0}, hub=heard("hub")).pools[0]
    edge = pool.members[0]
    assert (edge.site, edge.stale, edge.capacity) == ("edge", True, pytest.approx(40))


def test_a_site_that_has_answered_nothing_yet_is_to_be_tried_while_it_is_heard() -> None:
    for age_s, untried in ((0.2, {"edge"}), (FRESH_S + 1, set())):
        pool = read(hub=heard("hub"), edge=heard("edge", by_batch={}, age_s=age_s)).pools[0]
        assert [one.site for one in pool.members] == ["hub"]
        assert (pool.unmeasured, pool.untried) == ({"edge"}, untried)


def test_what_answers_seldom_is_not_known_well() -> None:
    for answered, age_s, seldom in (
        (0.0, 0.2, True),
        (0.9, 0.2, True),
        (1.0, 0.2, False),
        (0.0, 30.0, False),
    ):
        edge = read(hub=heard("hub"), edge=heard("edge", answered=answered, age_s=age_s)).pools[0].members[0]
        assert (edge.site, edge.seldom) == ("edge", seldom), "a stale one is asked no more than it was"


def test_a_stale_site_fades_towards_what_is_declared() -> None:
    declared = {("edge", CLS): 100.0}
    for age, capacity in ((1.0, 500.0), (FRESH_S + FADE_S, 300.0), (FRESH_S + 100 * FADE_S, 100.0)):
        edge = read(declared, hub=heard("hub"), edge=heard("edge", age_s=age)).pools[0].members[0]
        assert edge.stale == (age > FRESH_S)
        assert edge.capacity == pytest.approx(capacity)


def test_the_burst_of_a_stale_site_is_over() -> None:
    for age_s, peak in ((1.0, 40.0), (FRESH_S + 1, 0.0)):
        edge = read(hub=heard("hub"), edge=heard("edge", age_s=age_s, peak=40)).pools[0].members[0]
        assert edge.peak == peak
        # All 2 instances with 4 at once are 500 a second; more than 8 wait.
        assert edge.held_up_s == pytest.approx(edge.single_s + max(0, peak + 1 - 8) / 500)


def test_ways_are_measured_from_either_end_or_taken_to_be_far() -> None:
    of = read(hub=heard("hub", links={"edge": {"rtt_ms": 7.0}}), abroad=heard("abroad"))
    abroad, edge, hub = (of.number[site] for site in ("abroad", "edge", "hub"))
    assert of.rtt_s[hub, edge] == of.rtt_s[edge, hub] == pytest.approx(0.007)
    assert of.rtt_s[edge, abroad] == UNKNOWN_RTT_S
    assert of.s_per_byte[hub, edge] == pytest.approx(1e-6)  # 8 Mbit/s, as declared
    assert not np.diag(of.rtt_s).any()


def test_nothing_known_at_all_makes_no_plan_and_no_error() -> None:
    made = plan(read())
    assert made.shares["hub", CLS, "live"] == {"hub": 1.0}
    assert ("abroad", CLS, "live") not in made.shares


def test_zeros_do_no_harm() -> None:
    said = PoolSummary(kind="model", ready=True, instances=0, max_batch=0, service_ms=0.0, capacity=0.0)
    assert Figures.of(said, None, -1, FADE_S) is None
    known = Figures.of(said, 5.0, -1, FADE_S)
    assert known is not None
    assert member("x", known).capacity == pytest.approx(5)
