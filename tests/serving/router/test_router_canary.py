"""What a roll-out or a drain changes in the front door's files, and that Envoy accepts it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_router_config import accepted, demo_view, endpoints_of, routes_in

from models.errors import HeadendError
from serving.fleet import DEFAULT_CLASS
from serving.router import admission, envoy, transition
from serving.router.clusters import home_cluster
from serving.router.shares import shares
from serving.router.transition import Canary, Transition
from serving.router.view import FleetView, Pool

MODEL, OTHER = Pool("model", "ppocr-cls"), Pool("model", "ppocr-det")
PORTS = {"http": 9100, "grpc": 9101, "judge_http": 9102, "judge_grpc": 9103}


def with_canary(share: float, mirror: float = 0.0, **more: Any) -> FleetView:
    canaries = {MODEL.name: Canary(**PORTS, share=share, mirror=mirror)}
    return replace(demo_view(), transition=Transition(canaries=canaries, **more))


def localities(view: FleetView, pool: Pool) -> dict[tuple[str, str], dict[str, Any]]:
    home = home_cluster(pool, "http")
    found = endpoints_of(view)[home]
    return {(each["locality"]["zone"], each["locality"].get("sub_zone", "")): each for each in found}


def test_the_canary_takes_its_part_of_the_sites_share() -> None:
    found = localities(with_canary(0.25), MODEL)
    weights = {at: each["load_balancing_weight"] for at, each in found.items() if not each["priority"]}
    assert weights == {("hub", ""): 7500, ("hub", "canary"): 2500}
    assert ("hub", "canary") not in localities(with_canary(0.25), OTHER)


def test_a_canary_without_a_share_gets_nothing_new_and_can_still_be_counted() -> None:
    canary = localities(with_canary(0), MODEL)["hub", "canary"]
    assert canary["priority"] == 1
    assert canary["lb_endpoints"][0]["health_status"] == "DRAINING"


def test_some_requests_of_the_model_and_of_no_other_are_copied() -> None:
    (routes,) = envoy.discovery(with_canary(0, 0.2), Path("/out"))["routes/front-door.json"]
    copied = [each for each in routes_in(routes) if "request_mirror_policies" in each.get("route", {})]
    assert {each["metadata"]["filter_metadata"]["headend"]["pool"] for each in copied} == {MODEL.name}
    assert all(each["route"]["timeout"] != "0s" for each in copied), "a stream has no end to compare"
    fractions = [each["route"]["request_mirror_policies"][0]["runtime_fraction"] for each in copied]
    assert {each["default_value"]["numerator"] for each in fractions} == {2000}


@pytest.mark.parametrize("plan", [{}, {(MODEL, DEFAULT_CLASS): {"hub": 0.7, "edge": 0.3}}])
def test_a_draining_site_leads_away_what_another_can_answer(plan: Any) -> None:
    view = replace(with_canary(0.25, draining=True), plan=plan)
    assert shares(view, MODEL, DEFAULT_CLASS) == {"hub": 0.0, "edge": 1.0}
    assert "kept.interactive 0\n" in dict(admission.figures(view))["admission/model.ppocr-cls"]
    alone = replace(view, others=())
    assert shares(alone, MODEL, DEFAULT_CLASS) == {"hub": 1.0}


def test_a_closed_front_door_says_so() -> None:
    files = envoy.discovery(with_canary(0, closed=True), Path("/out"))
    assert files["endpoints/door.json"][0]["endpoints"] == []


@pytest.mark.parametrize("view", [with_canary(0.05, 0.2), with_canary(0, draining=True, closed=True)])
def test_envoy_accepts_it(view: FleetView, tmp_path: Path) -> None:
    accepted(view, tmp_path)


def test_what_is_asked_is_kept_and_a_broken_file_is_told(tmp_path: Path) -> None:
    assert transition.read(tmp_path) == Transition()
    asked = with_canary(0.5, 0.1, draining=True).transition
    transition.write(tmp_path, asked)
    assert transition.read(tmp_path) == asked
    (tmp_path / "transition.json").write_text('{"draining": 1, "share": 2}')
    with pytest.raises(HeadendError, match="not written by this version"):
        transition.read(tmp_path)
