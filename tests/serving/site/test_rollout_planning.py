"""What a change of the declaration comes to at each site."""

from __future__ import annotations

import pytest

from serving.fleet import Fleet
from serving.site.plan import FleetPlan, SitePlan
from serving.site.rollout.history import Revision
from serving.site.rollout.machine import SiteChange, steps_of
from serving.site.rollout.planning import changed_models, changes_of

TEXT = """
fleet: small
models: {a: {}, b: {}}
apps: {review: {}}
sites: {one: {front_door: "127.0.0.1:18101"}, two: {front_door: "127.0.0.1:18111"}}
"""


def revision(*changes: tuple[str, str]) -> Revision:
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    fleet = Fleet.parse(text, where="test")
    return Revision(number=1, made=0, by="up", fleet=fleet, bundles={"a": "a" * 64, "b": "b" * 64})


def plan(*sites: SitePlan, retire: tuple[str, ...] = ()) -> FleetPlan:
    return FleetPlan("small", build=(), bundles={}, sites=sites, retire=retire)


def changed(site: str, **parts: tuple[str, ...]) -> SitePlan:
    return SitePlan(site, {}, write=("front door's configuration",), **{"keep": ("envoy",), **parts})


@pytest.mark.parametrize("use", ["class: batch", "balancing: {placement: local-only}"])
def test_what_only_front_doors_read_is_no_new_version(use: str) -> None:
    after = revision(("a: {}", "a: {" + use + "}"))
    assert changed_models(revision(), after, "one") == []
    kinds = [step.kind for step in steps_of(changes_of(revision(), after, plan(changed("one"))), [5, 50])]
    assert kinds == ["change", "watch"]


def test_what_triton_reads_is() -> None:
    after = revision(("a: {}", "a: {instances: 2}"))
    assert changed_models(revision(), after, "one") == ["a"]


@pytest.mark.parametrize("less", ["models: [a]", "apps: []"])
def test_others_answer_before_a_site_stops_to(less: str) -> None:
    after = revision(('"127.0.0.1:18101"', f'"127.0.0.1:18101", {less}'))
    kinds = [step.kind for step in steps_of(changes_of(revision(), after, plan(changed("one"))), [])]
    assert kinds == ["drain", "change", "undrain", "watch"]


@pytest.mark.parametrize(
    ("restart", "kinds"),
    [
        (("agent",), ["change", "watch"]),
        (("serve", "agent"), ["drain", "change", "undrain", "watch"]),
        (("triton",), ["drain", "change", "undrain", "watch"]),
        (("triton", "envoy"), ["close", "change", "open", "watch"]),
    ],
)
def test_a_restart_is_made_in_a_site_that_nobody_asks(restart: tuple[str, ...], kinds: list[str]) -> None:
    found = changes_of(revision(), revision(), plan(changed("one", restart=restart)))
    assert [step.kind for step in steps_of(found, [])] == kinds


def test_clients_leave_a_site_before_it_goes() -> None:
    steps = steps_of(changes_of(revision(), revision(), plan(retire=("two",))), [])
    assert [(step.site, step.kind) for step in steps] == [("two", "close"), ("two", "stop")]


def test_sequences_end_before_the_version_that_remembers_them() -> None:
    change = SiteChange("one", "change", models=("a",), with_states=("a",))
    assert [step.kind for step in steps_of([change], [50])] == [
        *("canary", "shadow", "share"),
        *("drain", "change", "undrain", "watch", "retire"),
    ]
