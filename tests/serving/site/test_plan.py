"""The plan: what would change, from the declaration, the store and what runs."""

import json

import pytest

from models.errors import DeclarationError
from serving.fleet import Fleet
from serving.site import derive
from serving.site.plan import make_plan

TEXT = """
fleet: small
models: {a: {}, b: {}}
apps: {review: {}}
sites: {one: {front_door: "127.0.0.1:18101"}, two: {front_door: "127.0.0.1:18111", apps: [], models: []}}
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADEND_HOME", str(tmp_path))
    current = tmp_path / "store" / "current"
    current.mkdir(parents=True)
    for name in ("a", "b"):
        (current / f"{name}.json").write_text(json.dumps({"digest": name * 64}))
    return tmp_path


def fleet(*changes):
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return Fleet.parse(text, where="test")


def test_a_first_plan_writes_and_starts_what_each_site_needs(home):
    plan = make_plan(fleet(), ["one", "two"])
    assert plan.build == ()
    one, two = plan.sites
    assert one.write == (derive.REPOSITORY, derive.APPS, derive.FRONT_DOOR, derive.AGENT)
    assert one.start == ("triton", "serve", "envoy", "agent")
    assert two.write == (derive.FRONT_DOOR, derive.AGENT)
    assert two.start == ("envoy", "agent")
    assert set(one.ports) == set(derive.ports_of(fleet(), "one"))
    assert not set(one.ports.values()) & set(two.ports.values())


def test_a_missing_bundle_is_to_be_built(home):
    (home / "store" / "current" / "b.json").unlink()
    assert make_plan(fleet(), ["one"]).build == ("b",)
    assert make_plan(fleet(), ["two"]).build == ()


@pytest.mark.parametrize(
    ("change", "files"),
    [
        (("a: {}", "a: {instances: 2}"), {derive.REPOSITORY, derive.FRONT_DOOR, derive.AGENT}),
        (("review: {}", "review: {concurrency: 3}"), {derive.APPS, derive.FRONT_DOOR, derive.AGENT}),
        (("127.0.0.1:18111", "127.0.0.1:18121"), {derive.FRONT_DOOR, derive.AGENT}),
    ],
)
def test_digests_change_with_what_they_derive_from_and_nothing_else(home, change, files):
    plan = make_plan(fleet(), ["one"])
    ports = plan.sites[0].ports
    before = derive.digests(fleet(), "one", plan.bundles, ports)
    after = derive.digests(fleet(change), "one", plan.bundles, ports)
    assert {kind for kind in before if before[kind] != after[kind]} == files


def test_a_new_bundle_changes_the_repository_and_what_reads_from_it(home):
    plan = make_plan(fleet(), ["one"])
    ports = plan.sites[0].ports
    before = derive.digests(fleet(), "one", plan.bundles, ports)
    after = derive.digests(fleet(), "one", {**plan.bundles, "a": "c" * 64}, ports)
    assert {kind for kind in before if before[kind] != after[kind]} == set(before)


def test_a_policy_that_is_not_valid_is_refused(home, tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("policy: x\nversion: '1'\ntresholds: {}\n")
    with pytest.raises(DeclarationError, match="thresholds"):
        make_plan(fleet(("review: {}", f"review: {{policy: {policy}}}")), ["one"])


def test_paths_in_a_fleet_file_are_relative_to_it(tmp_path):
    file = tmp_path / "fleet.yaml"
    file.write_text(TEXT.replace("review: {}", "review: {policy: rules/p.yaml}"))
    assert Fleet.load(file).apps["review"].policy == tmp_path / "rules" / "p.yaml"
