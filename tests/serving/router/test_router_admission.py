"""Rooms by class, the figures that the front door's script reads, and classes by the fleet file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_router_config import demo_view, routes_in

from serving.fleet import CLASSES, DEFAULT_CLASS, Class, Fleet
from serving.router import admission, envoy, shares
from serving.router.agent.pace import paces
from serving.router.options import MOST_OPTIONS, Choice, Option, Threshold
from serving.router.telemetry.summary import PoolSummary
from serving.router.transition import Transition
from serving.router.view import FleetView, LocalPorts, Pace, Pool, Room

CLS = Pool("model", "ppocr-cls")


@given(
    st.integers(1, 300),
    st.integers(0, 300),
    st.none() | st.floats(1, 1e5),
    st.none() | st.floats(1e-3, 1e4),
)
def test_the_more_urgent_finds_the_more_room(
    at_once: int, queue: int, patience_ms: float | None, per_request_ms: float | None
) -> None:
    room = Room(at_once, queue, patience_ms)
    pace = {CLS.key: Pace(1.0, per_request_ms)} if per_request_ms else {}
    view = replace(demo_view(), rooms={CLS.key: room}, pace=pace)
    found = admission.rooms(view, CLS)
    most = view.limits.concurrency
    assert most >= found["live"] >= found["interactive"] >= found["batch"] >= min(most, at_once)
    assert found["live"] <= room.total
    if patience_ms and per_request_ms:
        waits = (found["live"] - at_once) * per_request_ms
        assert waits <= patience_ms + per_request_ms / 2 + 1e-6


@pytest.mark.parametrize(
    ("queue", "interactive", "batch"),
    [(64, 48, 16), (12, 8, 3), (8, 4, 1), (4, 2, 1), (1, 1, 0), (0, 0, 0)],
)
def test_short_queues_have_places_for_live_requests_too(queue: int, interactive: int, batch: int) -> None:
    found = admission.rooms(replace(demo_view(), rooms={CLS.key: Room(2, queue)}), CLS)
    assert found == {"live": 2 + queue, "interactive": 2 + interactive, "batch": 2 + batch}


def test_figures_are_what_the_script_reads() -> None:
    view = replace(
        demo_view(),
        plan={(CLS, "live"): {"hub": 0.75, "edge": 0.25}},
        pace={CLS.key: Pace(3.0, 1.5)},
        thresholds={CLS.key: Threshold(stay_below=2, leave_at=40)},
    )
    lines = dict(
        line.split() for line in dict(admission.figures(view))["admission/model.ppocr-cls"].splitlines()
    )
    assert lines == {
        "kept.live": "0.75",
        "kept.interactive": "1",
        "kept.batch": "1",
        "room.live": "96",
        "room.interactive": "80",
        "room.batch": "48",
        "counted": "1",
        "stay_below": "2",
        "leave_at": "40",
        "at_once": "32",
        "service_ms": "3",
        "per_request_ms": "1.5",
    }


def test_what_was_slow_and_has_nothing_to_do_refuses_nobody_for_it() -> None:
    """Else every request with a deadline would be refused for good, and none would show that it is over."""

    def summary(**more: float) -> dict[str, PoolSummary]:
        return {CLS.key: PoolSummary(kind="model", ready=True, room=9, service_ms=5000, capacity=0.2, **more)}

    def figures(pace: dict[str, Pace]) -> str:
        return dict(admission.figures(replace(demo_view(), pace=pace)))["admission/model.ppocr-cls"]

    for busy in (summary(answered=0.2), summary(peak=1)):
        slow = paces(busy, {})
        assert slow == paces(busy, slow) == {CLS.key: Pace(5000, 5000)}
        assert "service_ms 5000" in figures(slow)
        idle = paces(summary(), slow)
        assert idle == paces(summary(), idle) == {CLS.key: Pace(None, 5000)}
        assert "service_ms" not in figures(idle)
        assert "per_request_ms 5000" in figures(idle), "it has no more room than before"
        assert paces(busy, idle) == slow


def test_options_are_what_the_script_reads_instead_of_thresholds() -> None:
    rooms: dict[Class, int] = {"live": 96, "interactive": 80, "batch": 48}
    choice = Choice(
        Option(0.02, 2, 0.01), {"edge": Option(0.04, 4, 0.005, others=3.25, looked=0.001, rooms=rooms)}
    )
    view = replace(
        demo_view(),
        thresholds={CLS.key: Threshold(stay_below=2, leave_at=40)},
        choices={CLS.key: choice},
    )
    lines = dict(admission.figures(view))["admission/model.ppocr-cls"].splitlines()
    assert [line for line in lines if line.startswith("option ")] == [
        "option here 0.02 2 0.01 0 0 1e+06 1e+06 1e+06",
        "option model.ppocr-cls.at.edge 0.04 4 0.005 3.25 0.001 96 80 48",
    ]
    assert not [line for line in lines if line.startswith(("stay_below", "leave_at"))]
    assert "counted 1" in lines
    draining = replace(view, transition=Transition(draining=True))
    assert "option" not in dict(admission.figures(draining))["admission/model.ppocr-cls"]


def test_of_many_sites_none_is_weighed_alone() -> None:
    def names(others: int) -> set[str]:
        sites = {f"s{number}": {"front_door": f"10.0.0.{number + 1}:80"} for number in range(others + 1)}
        fleet = Fleet.model_validate({"fleet": "f", "models": {"alpha": {}}, "sites": sites})
        view = FleetView.of(fleet, "s0", LocalPorts(9000, 9001, {}, 9005))
        view = replace(view, choices={"model.alpha": Choice(Option(1, 1, 1), {"s1": Option(1, 1, 1)})})
        found = envoy.discovery(view, Path("/out"))["clusters.json"]
        assert bool(view.choice(Pool("model", "alpha"))) == (0 < others <= MOST_OPTIONS)
        return {each["name"] for each in found if ".at." in each["name"]}

    assert names(0) == names(MOST_OPTIONS + 1) == set()
    assert names(MOST_OPTIONS) == {f"model.alpha.at.s{number + 1}" for number in range(MOST_OPTIONS)}


@given(st.floats(0, 1), st.floats(0, 0.999))
def test_what_stays_because_a_server_is_idle_counts_towards_the_share(share: float, idle: float) -> None:
    threshold = Threshold(stay_below=1, leave_at=40, idle=idle)
    plan = {(CLS, "live"): {"hub": share, "edge": 1 - share}}
    view = replace(demo_view(), plan=plan, thresholds={CLS.key: threshold})
    kept = shares.kept(view, CLS, "live")
    assert idle + (1 - idle) * kept == pytest.approx(max(share, idle))
    draining = replace(view, transition=Transition(draining=True))
    assert shares.kept(draining, CLS, "live") == 0


FLEET = """
fleet: f
models: {plain: {}, night: {class: batch}}
apps: {review: {class: live}}
sites: {a: {front_door: "127.0.0.1:1"}, b: {front_door: "127.0.0.1:3"}}
"""


def test_the_fleet_file_says_the_class_of_those_that_name_none() -> None:
    fleet = Fleet.parse(FLEET, where="here")
    assert Fleet.model_validate(fleet.model_dump(mode="json")) == fleet
    view = FleetView.of(fleet, "a", LocalPorts(9000, 9001, {"review": 9004}, 9005))
    (routes,) = envoy.discovery(view, Path("/out"))["routes/front-door.json"]
    told: dict[str, set[Any]] = {}
    for route in routes_in(routes):
        if headers := route.get("request_headers_to_add"):
            pool = route["metadata"]["filter_metadata"]["headend"]["pool"]
            told.setdefault(pool, set()).update(each["header"]["value"] for each in headers)
    assert told == {"night": {"batch"}, "review": {"live"}}
    assert [view.class_of(pool) for pool in view.pools] == [DEFAULT_CLASS, "batch", DEFAULT_CLASS, "live"]


def test_every_class_has_its_own_statistics() -> None:
    (routes,) = envoy.discovery(demo_view(), Path("/out"))["routes/front-door.json"]
    prefixes = {route.get("stat_prefix") for route in routes_in(routes)}
    assert {f"model.ppocr-cls.{class_}" for class_ in CLASSES} <= prefixes
