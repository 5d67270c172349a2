"""Shares and the endpoints that follow from them, for any fleet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_router_config import endpoints_of

from models.errors import DeclarationError
from serving.fleet import DEFAULT_CLASS, Fleet
from serving.router.clusters import away_cluster, classes_of, site_cluster
from serving.router.endpoints import WEIGHTS
from serving.router.shares import ALTERNATIVES, LONGEST_ROW, away, shares
from serving.router.view import FleetView, LocalPorts, Pool

PORTS = LocalPorts(1001, 1002, {"subtitles": 1003, "review": 1004}, 1005)
MODELS = ["alpha", "beta", "gamma"]
APPS = ["subtitles", "review"]


@st.composite
def views(draw: st.DrawFn) -> FleetView:
    names = draw(st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1, max_size=5, unique=True))
    sites = {
        name: {
            "front_door": f"127.0.0.{number}:8080",
            "models": draw(st.lists(st.sampled_from(MODELS), unique=True)),
            "apps": draw(st.lists(st.sampled_from(APPS), unique=True)),
        }
        for number, name in enumerate(names, start=1)
    }
    fleet = Fleet.model_validate(
        {"fleet": "any", "models": {m: {} for m in MODELS}, "apps": {a: {} for a in APPS}, "sites": sites}
    )
    return FleetView.of(fleet, draw(st.sampled_from(names)), PORTS)


@given(views())
def test_shares_cover_exactly_the_pools_sites_and_sum_to_one(view: FleetView) -> None:
    for pool in view.pools:
        split = shares(view, pool, DEFAULT_CLASS)
        assert set(split) == {site.name for site in view.sites_of(pool)}
        assert all(share >= 0 for share in split.values())
        assert sum(split.values()) == pytest.approx(1)


@given(views())
def test_what_is_here_is_answered_here(view: FleetView) -> None:
    for pool in view.pools:
        split = shares(view, pool, DEFAULT_CLASS)
        assert split.get(view.local.name, 1) == 1
        if view.local.name not in split:
            assert len(set(split.values())) == 1


@given(views(), st.data())
def test_what_leaves_is_split_among_others_as_planned(view: FleetView, data: st.DataObject) -> None:
    for pool in view.pools:
        names = [site.name for site in view.sites_of(pool)]
        planned = data.draw(st.dictionaries(st.sampled_from(names), st.floats(0, 1)))
        with_plan = replace(view, plan={(pool, DEFAULT_CLASS): planned})
        split, last = away(with_plan, pool, DEFAULT_CLASS)
        others = set(names) - {view.local.name}
        assert set(split) | set(last) <= others
        assert not set(split) & set(last)
        assert len(split) + len(last) == len(others) or len(split) + len(last) >= ALTERNATIVES
        assert len(split) <= LONGEST_ROW
        if others:
            assert sum(split.values()) == pytest.approx(1)
        shared = {site: share for site, share in planned.items() if share > 0 and site in others}
        for site, share in shared.items():
            assert split[site] == pytest.approx(share / sum(shared.values()))


def _chosen(view: FleetView) -> list[list[dict[str, Any]]]:
    """Of every cluster whose endpoints are chosen by health; the others have but one."""
    return [each for each in endpoints_of(view).values() if "locality" in each[0]]


@given(views())
def test_endpoints_are_what_envoy_takes(view: FleetView) -> None:
    for localities in _chosen(view):
        zones = [tuple(locality["locality"].values()) for locality in localities]
        assert len(set(zones)) == len(zones)
        # Envoy wants priorities without gaps, and weights of at least 1.
        priorities = {locality["priority"] for locality in localities}
        assert priorities == set(range(len(priorities)))
        assert all(1 <= locality["load_balancing_weight"] <= WEIGHTS for locality in localities)


@given(views())
def test_what_leaves_comes_home_when_those_with_a_share_are_down(view: FleetView) -> None:
    found = endpoints_of(view)
    for pool in view.pools:
        others = [site for site in view.sites_of(pool) if site is not view.local]
        for name in (away_cluster(pool, class_) for class_ in classes_of(pool) if others):
            home = [each["priority"] for each in found[name] if each["locality"]["zone"] == view.local.name]
            assert home == ([1] if view.local.answers(pool) else [])


@given(views())
def test_after_a_single_site_home_is_asked_and_then_others(view: FleetView) -> None:
    found = endpoints_of(view)
    for pool in (pool for pool in view.pools if view.weighs(pool)):
        others = {site.name for site in view.nearest(pool)}
        for site in others:
            tiers: dict[int, set[str]] = {}
            for each in found[site_cluster(pool, site)]:
                tiers.setdefault(each["priority"], set()).add(each["locality"]["zone"])
                (endpoint,) = each["lb_endpoints"]
                is_probed = "port_value" in endpoint["endpoint"]["health_check_config"]
                assert is_probed == (each["locality"]["zone"] == site)
            first, second, *spare = (tiers[priority] for priority in sorted(tiers))
            assert (first, second) == ({site}, {view.local.name})
            assert set().union(*spare) <= others - {site}
            assert bool(spare) == (len(others) > 1)


def test_of_many_sites_a_row_lists_few() -> None:
    sites = {
        f"s{number}": {"front_door": f"10.0.{number // 250}.{number % 250}:80"} for number in range(1000)
    }
    fleet = Fleet.model_validate({"fleet": "large", "models": {"alpha": {}}, "sites": sites})
    view = FleetView.of(fleet, "s0", PORTS)
    pool = Pool("model", "alpha")
    view = replace(view, rtt_ms={"s700": 1.0, "s701": 2.0})
    assert set(away(view, pool, "live")[0]) == {"s700", "s701", "s1", "s10"}
    everywhere = replace(view, plan={(pool, "live"): dict.fromkeys(sites, 1.0)})
    assert len(away(everywhere, pool, "live")[0]) == LONGEST_ROW
    others = [[each for each in found if each["locality"]["zone"] != "s0"] for found in _chosen(everywhere)]
    assert all(len(each) <= LONGEST_ROW for each in others)


@given(views())
def test_pools_are_what_some_site_answers(view: FleetView) -> None:
    assert all(view.sites_of(pool) for pool in view.pools)
    assert {pool.name for pool in view.pools if pool.kind == "app"} == {a for s in view.sites for a in s.apps}


def test_host_names_become_addresses() -> None:
    fleet = Fleet.model_validate(
        {"fleet": "f", "models": {}, "sites": {"a": {"front_door": "localhost:8080"}}}
    )
    assert FleetView.of(fleet, "a", PORTS).local.front_door.ip in {"127.0.0.1", "::1"}


def test_a_name_that_nobody_knows_is_said() -> None:
    fleet = Fleet.model_validate(
        {"fleet": "f", "models": {}, "sites": {"a": {"front_door": "no.such.host.invalid:8080"}}}
    )
    with pytest.raises(DeclarationError, match=r"site `a`: cannot resolve no\.such\.host\.invalid"):
        FleetView.of(fleet, "a", PORTS)
