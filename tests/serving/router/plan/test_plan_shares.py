"""What the plan does in fleets small enough to reckon by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from made_problems import CLS, problem

from models.errors import UsageError
from serving.fleet.balancing import Balancing, Placement
from serving.router.plan import Member, Plan, plan, resumed
from serving.router.plan.settling import MOST_MOVED, TRIED, settle
from serving.router.plan.wait import response_s

SMALL, LARGE = Member("small", 1, 0.01), Member("large", 8, 0.01)


def row(made: Plan, door: str) -> dict[str, float]:
    return dict(made.shares[door, CLS, "interactive"])


def test_an_idle_fleet_keeps_its_requests_at_home() -> None:
    made = plan(problem([SMALL, LARGE], {"interactive": {"small": 1, "large": 1}}))
    assert row(made, "small")["small"] > 0.99
    assert row(made, "large")["large"] > 0.99


def test_a_full_site_sends_away_until_one_more_costs_the_same_everywhere() -> None:
    made = plan(problem([SMALL, LARGE], {"interactive": {"small": 300}}, rtt_ms=10))
    assert 0.2 < 1 - row(made, "small")["small"] < 0.95
    price = made.pools[CLS].classes["interactive"].price
    large, small = price
    assert small == pytest.approx(large + 0.01, abs=0.002)


def test_a_far_site_is_asked_later_than_a_near_one() -> None:
    members = [SMALL, Member("far", 4, 0.01), Member("near", 4, 0.01)]
    ways = {("near", "small"): 2.0, ("far", "small"): 80.0}
    shares = row(plan(problem(members, {"interactive": {"small": 200}}, rtts_ms=ways)), "small")
    assert shares["near"] > 0.5
    assert 0 < shares["far"] < 0.01


def test_big_payloads_stay_off_a_thin_line() -> None:
    members = [Member("van", 2, 0.1), Member("hub", 8, 0.1)]
    thin = np.array([[0.0, 8e-7], [8e-7, 0.0]])  # 10 Mbit/s
    light, heavy = (
        plan(problem(members, {"interactive": {"van": 15}}, s_per_byte=thin, request_bytes=size))
        for size in (1e3, 5e5)
    )
    assert row(light, "van")["hub"] > row(heavy, "van")["hub"] + 0.2


def test_no_more_goes_over_a_line_than_it_carries() -> None:
    made = plan(
        problem(
            [SMALL, LARGE],
            {"interactive": {"small": 400}},
            request_bytes=1e5,
            uplink_bytes_per_s=np.array([np.inf, 1e7]),
        )
    )
    assert row(made, "small")["large"] * 400 * 1e5 == pytest.approx(0.7e7, rel=0.02)


def test_a_door_that_serves_nothing_has_shares_too() -> None:
    made = plan(problem([SMALL, LARGE], {"interactive": {"door": 100}}, doors=["door"]))
    assert sum(row(made, "door").values()) == pytest.approx(1)
    assert row(made, "door")["large"] > row(made, "door")["small"]


def test_local_only_without_a_site_of_its_own_has_no_shares() -> None:
    made = plan(problem([SMALL], {}, doors=["door"], balancing=Balancing(placement="local-only")))
    assert ("door", CLS, "interactive") not in made.shares


def test_a_site_of_which_nothing_is_known_keeps_its_own_and_gets_nothing() -> None:
    made = plan(problem([LARGE], {"interactive": {"new": 50}}, doors=["new"], unmeasured=frozenset({"new"})))
    assert row(made, "new") == {"new": 1.0}
    assert "new" not in row(made, "large")


@pytest.mark.parametrize("placement", ["anywhere", "prefer-local"])
def test_a_site_that_is_ready_and_never_answered_gets_a_few(placement: Placement) -> None:
    """Else nobody would ever find out what it can do, where it has no clients of its own."""
    new = frozenset({"new", "newer"})
    of = problem(
        [SMALL, LARGE],
        {"interactive": {"small": 50}},
        doors=["new", "newer"],
        unmeasured=new,
        untried=new,
        balancing=Balancing(placement=placement),
    )
    found = row(plan(of), "small")
    assert sum(found.values()) == pytest.approx(1)
    assert found["new"] == found["newer"] == pytest.approx(TRIED / 2, rel=0.01)
    assert row(plan(of), "new") == {"new": 1.0}
    sentences = plan(of).explain("small", CLS).sentences
    assert any(each.startswith("Of new, newer nothing is measured yet") for each in sentences)


def test_what_stays_at_home_by_rule_tries_nobody() -> None:
    only = Balancing(placement="local-only")
    new = frozenset({"new"})
    of = problem([SMALL], {}, doors=["new"], unmeasured=new, untried=new, balancing=only)
    assert row(plan(of), "small") == {"small": 1.0}


def test_overload_is_borne_in_proportion_to_capacity() -> None:
    made = plan(problem([SMALL, LARGE], {"interactive": {"small": 1800}}, rtt_ms=10))
    assert row(made, "small")["large"] == pytest.approx(8 / 9, abs=0.02)


def test_little_news_moves_nothing_and_much_moves_in_steps() -> None:
    """A tenth of a per cent more load leaves prices, and so shares, as they are."""
    before = plan(problem([SMALL, LARGE], {"interactive": {"small": 90}}))
    same = plan(problem([SMALL, LARGE], {"interactive": {"small": 90.1}}), before)
    assert row(same, "small") == pytest.approx(row(before, "small"), abs=1e-9)
    target = row(plan(problem([SMALL, LARGE], {"interactive": {"small": 850}})), "small")
    after = row(plan(problem([SMALL, LARGE], {"interactive": {"small": 850}}), same), "small")
    moved = row(same, "small")["small"] - after["small"]
    assert moved <= MOST_MOVED + 1e-9
    assert after["small"] >= target["small"] - 1e-5


def test_every_way_that_may_be_used_keeps_a_little() -> None:
    made = plan(problem([SMALL, LARGE], {"interactive": {"small": 1}}))
    assert row(made, "large")["small"] > 0


def test_a_stale_site_gets_no_more_than_it_had() -> None:
    stale = Member("large", 8, 0.01, stale=True)
    before = plan(problem([SMALL, LARGE], {"interactive": {"small": 40}}))
    after = plan(problem([SMALL, stale], {"interactive": {"small": 90}}), before)
    assert row(after, "small")["large"] <= row(before, "small")["large"] + 1e-9


def test_settling_drops_what_has_gone_at_once() -> None:
    assert settle({"a": 1.0}, {"a": 0.1, "b": 0.9}, frozenset()) == {"a": 1.0}


def test_a_door_that_starts_again_goes_on_from_its_own_shares() -> None:
    of = problem([SMALL, LARGE], {"interactive": {"small": 850}})
    kept = {(CLS, "interactive"): {"small": 1.0, "large": 0.0}}
    made = plan(of, resumed(of, "small", kept), doors=["small"])
    assert row(made, "small")["small"] == pytest.approx(1 - MOST_MOVED)


def test_thresholds_say_when_waiting_here_takes_longer() -> None:
    made = plan(problem([SMALL, LARGE], {"interactive": {"small": 50}}, rtt_ms=20))
    here = made.thresholds("small")["model.cls"]
    # One is worked on, and each that waits takes 10 ms: with three in flight one waits as long as the way.
    assert (here.stay_below, here.leave_at) == (1, 4) or (here.stay_below, here.leave_at) == (1, 3)
    alone = plan(problem([SMALL], {"interactive": {"small": 50}}))
    assert alone.thresholds("small") == {}


def test_after_a_burst_nobody_hurries_to_where_it_was() -> None:
    offered = {"interactive": {"small": 50}}
    quiet = plan(problem([SMALL, LARGE], offered, rtt_ms=20))
    # 200 more than servers are a second and a quarter at the one site and two at the other.
    swamped = plan(problem([SMALL, replace(LARGE, peak=1007)], offered, rtt_ms=20))
    assert quiet.thresholds("small")["model.cls"].leave_at < 5
    assert swamped.thresholds("small")["model.cls"].leave_at == 1 + math.ceil(
        (0.02 + 0.01 + 1.25 - 0.01) * 100
    )
    assert swamped.shares == quiet.shares, "shares follow rates"


def test_an_idle_server_keeps_no_request_that_a_faster_site_answers_sooner() -> None:
    quick = Member("quick", 8, 0.004)
    offered = {"interactive": {"small": 20}}
    near = plan(problem([SMALL, quick], offered, rtt_ms=2)).thresholds("small")["model.cls"]
    assert (near.stay_below, near.idle) == (0, 0)
    by_shares = Balancing(headroom={"live": 0.5})
    words = (
        plan(problem([SMALL, quick], offered, rtt_ms=2, balancing=by_shares)).explain("small", CLS).sentences
    )
    assert "An idle server at small keeps no request: another site answers sooner all the same." in words
    far = plan(problem([SMALL, quick], offered, rtt_ms=20)).thresholds("small")["model.cls"]
    assert far.stay_below == 1
    # Nearly all of 20 requests of 10 ms a second stay: one in five finds the server at work.
    assert far.idle == pytest.approx(0.8, abs=0.02)
    lines = {"request_bytes": 1e4, "uplink_bytes_per_s": np.array([1e7, 1e7])}
    thin = plan(problem([SMALL, quick], offered, rtt_ms=20, **lines)).thresholds("small")["model.cls"]
    assert (thin.stay_below, thin.idle) == (1, 0)


def test_an_explanation_names_what_binds() -> None:
    by_shares = Balancing(headroom={"batch": 0.5})
    made = plan(problem([SMALL, LARGE], {"interactive": {"small": 400}}, balancing=by_shares))
    words = "\n".join(made.explain("small", CLS).sentences)
    assert "Clients bring 400 requests/s of class interactive to small." in words
    assert "large: " in words
    assert "10 ms away" in words
    assert "Whatever the shares: with fewer than 1 in flight at small a request stays, with " in words
    with pytest.raises(UsageError, match="no site `nowhere`"):
        made.explain("nowhere", CLS)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8, 0.9])
def test_one_server_waits_as_pollaczek_and_khinchine_say(share: float) -> None:
    """Exact for one server without batches: 1/(1 - rho) (1 + cv2)/2 rho S on top of S."""
    found = response_s([Member("x", 1, 0.02, cv2=0.5)], np.array([share]))[0, 0]
    assert found == pytest.approx(0.02 + share / (1 - share) * 0.75 * 0.02)
