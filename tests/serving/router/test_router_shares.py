"""Shares and the endpoints that follow from them, for any fleet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import DeclarationError
from serving.fleet import DEFAULT_CLASS, Fleet
from serving.router.clusters import WEIGHTS, endpoints, protocols
from serving.router.shares import shares
from serving.router.view import FleetView, LocalPorts

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


@given(views())
def test_every_site_of_a_pool_is_an_endpoint_once(view: FleetView) -> None:
    for pool in view.pools:
        split = shares(view, pool, DEFAULT_CLASS)
        for protocol in protocols(pool):
            localities = endpoints(view, pool, protocol)["endpoints"]
            assert [each["locality"]["zone"] for each in localities] == [
                site.name for site in view.sites_of(pool)
            ]
            # Envoy wants priorities without gaps, and weights of at least 1.
            priorities = {each["priority"] for each in localities}
            assert priorities == set(range(len(priorities)))
            for each in localities:
                share = split[each["locality"]["zone"]]
                assert each["priority"] == (0 if share else 1)
                assert each["load_balancing_weight"] == max(1, round(share * WEIGHTS))


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
