"""What a front door weighs for each request."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_problems import CLS, problem

from serving.fleet.balancing import Balancing
from serving.router.options import MOST_OPTIONS, Choice
from serving.router.plan import Member, plan
from serving.router.plan.choice import MOST_USED
from serving.router.plan.settling import LOOKED_AGAIN, PROBED, TRIED

SMALL, LARGE = Member("small", 1, 0.01), Member("large", 8, 0.01)
OFFERED = {"interactive": {"small": 50.0}}
THERE = {CLS.key: {"large": 0.0}}


def weighed(*members: Member, under_way: dict[str, float] | None = None, **more: object) -> Choice | None:
    """At `small`."""
    ways = {member.site: 0.0 for member in members} if under_way is None else under_way
    made = plan(problem(members, OFFERED, rtt_ms=20, **more))
    return made.choices("small", {CLS.key: ways}).get(CLS.key)


def test_a_site_is_weighed_by_its_way_its_work_and_who_waits() -> None:
    choice = weighed(SMALL, replace(LARGE, in_flight=30), under_way={"large": 12.5})
    assert choice
    assert (choice.here.base_s, choice.here.servers, choice.here.looked) == (pytest.approx(0.01), 1, 0)
    there = choice.elsewhere["large"]
    assert (there.base_s, there.servers) == (pytest.approx(0.03), 8)
    assert there.others == pytest.approx(17.5)
    assert there.looked == pytest.approx(PROBED)
    # One more there keeps nobody waiting as long as servers are idle; here it is at least its own 10 ms.
    assert there.each_s == pytest.approx(1 / 800, rel=0.3)
    assert 0.01 <= choice.here.each_s <= 0.01 / (1 - MOST_USED) + 1e-9


def test_a_site_that_is_full_is_known_to_be() -> None:
    choice = weighed(SMALL, replace(LARGE, room=48))
    assert choice
    assert choice.elsewhere["large"].rooms == {"live": 48, "interactive": 8 + 30, "batch": 8 + 10}
    assert choice.here.rooms == {}
    uncertain = weighed(SMALL, replace(LARGE, room=48, in_flight=20), under_way={"large": 4.0})
    assert uncertain
    assert uncertain.elsewhere["large"].rooms == {"live": 44, "interactive": 38, "batch": 18}


@given(
    st.lists(st.floats(0, 1000), min_size=2, max_size=2),
    st.floats(0, 1e4),
    st.floats(0, 1e4),
)
def test_figures_are_never_negative_however_telemetry_differs(
    rates: list[float], in_flight: float, under_way: float
) -> None:
    offered = {"live": {"small": rates[0], "large": rates[1]}}
    made = plan(problem([SMALL, replace(LARGE, in_flight=in_flight)], offered))
    choice = made.choices("small", {CLS.key: {"large": under_way}})[CLS.key]
    for option in (choice.here, *choice.elsewhere.values()):
        assert min(option.base_s, option.servers, option.each_s) > 0
        assert option.others >= 0
        assert 0 <= option.looked <= 1


def test_a_site_that_is_not_reached_is_none_of_the_options() -> None:
    third = Member("third", 1, 0.01)
    choice = weighed(SMALL, LARGE, third, under_way={"third": 0.0})
    assert choice
    assert set(choice.elsewhere) == {"third"}
    assert weighed(SMALL, LARGE, under_way={}) is None


def test_a_site_that_answers_seldom_is_looked_at_again_however_slow_it_seems() -> None:
    """At home, too: nobody else may ask there. The slower it seems, the less."""
    choice = weighed(replace(SMALL, single_s=0.015, seldom=True), replace(LARGE, seldom=True))
    assert choice
    assert choice.here.looked == choice.elsewhere["large"].looked == pytest.approx(LOOKED_AGAIN / 2)
    for times in (3, 11, 1000):
        slow = weighed(SMALL, replace(LARGE, single_s=times * 0.01, seldom=True))
        assert slow
        longer = slow.elsewhere["large"].base_s / slow.here.base_s - 1
        assert slow.here.looked == 0
        expected = max(PROBED, LOOKED_AGAIN / longer)
        assert slow.elsewhere["large"].looked == pytest.approx(expected)
    assert expected == PROBED


def test_an_untried_site_is_looked_at_and_not_chosen() -> None:
    choice = weighed(
        SMALL, LARGE, under_way={"large": 0.0, "new": 0.0}, doors=["new"], untried=frozenset({"new"})
    )
    assert choice
    assert choice.elsewhere["new"].looked == pytest.approx(TRIED)
    assert choice.elsewhere["new"].base_s > 1e3


def test_shares_lead_where_single_requests_cannot_say() -> None:
    assert weighed(SMALL) is None
    assert weighed(LARGE, doors=["small"]) is None, "the site itself does not serve it"
    assert weighed(SMALL, LARGE, balancing=Balancing(placement="local-only")) is None
    assert weighed(SMALL, LARGE, balancing=Balancing(headroom={"batch": 0.3})) is None
    lines = {"request_bytes": 1e4, "uplink_bytes_per_s": np.array([1e7, 1e7])}
    assert weighed(SMALL, LARGE, **lines) is None
    many = [Member(f"s{number}", 1, 0.01) for number in range(MOST_OPTIONS + 1)]
    assert weighed(SMALL, *many) is None
    assert weighed(SMALL, *many[1:]) is not None


def test_who_prefers_home_leaves_it_late() -> None:
    near, late = weighed(SMALL, LARGE), weighed(SMALL, LARGE, balancing=Balancing(placement="prefer-local"))
    assert near
    assert late
    assert late.elsewhere["large"].base_s > 5 * near.elsewhere["large"].base_s


def test_an_explanation_says_how_single_requests_are_led() -> None:
    words = " ".join(plan(problem([SMALL, LARGE], OFFERED)).explain("small", CLS).sentences)
    assert "Each request goes where it adds least to the time of all" in words
    assert "in flight at small" not in words
