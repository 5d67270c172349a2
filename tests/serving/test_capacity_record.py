"""Capacity records: what they must say, how they are merged, and how a fleet refers to them."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from models.errors import DeclarationError
from models.home import home
from serving.capacity import CapacityRecord
from serving.fleet import Fleet
from serving.site.spec import SiteDirectory
from serving.site.status import remember, running_fleet

MEASURED = {
    "at": "2026-01-01T00:00:00+00:00",
    "headend": "0.1.0",
    "hardware": "2 × some CPU",
    "bundles": {"x": "0" * 64},
    "campaign": "smoke",
    "campaign_digest": "1" * 64,
    "step_s": 30,
    "steps": 17,
    "ended": "width",
    "objectives": [{"name": "live p99", "limit": 500, "unit": "ms"}],
}


def capacity(**changes):
    found = {"per_second": 10.5, "at_least": 10, "below": 11, "confidence": 0.9, "measured": MEASURED}
    return {**found, **changes}


def work(**changes):
    return capacity(client="triton-grpc", input="tensors", **changes)


def record(site="hub", **parts):
    return CapacityRecord.model_validate({"site": site, **parts})


def fleet_file(folder, capacity="capacity/hub.yaml"):
    path = folder / "fleet.yaml"
    path.write_text(
        "fleet: a\nmodels: {x: {}}\n"
        f"sites: {{hub: {{front_door: '127.0.0.1:1', capacity: {capacity}}}, edge: {{front_door: 'h:3'}}}}\n"
    )
    return path


def test_a_record_outlives_writing_and_reading(tmp_path):
    path = tmp_path / "capacity" / "hub.yaml"
    first = record(
        pools={"x": {"small": work(), "large": work(per_second=None, below=None, batch=8)}},
        mixes={"smoke": capacity(shares={"small": 0.25, "large": 0.75}, p99_ms=12.5)},
    )
    assert first.merge_into(path) == first
    assert CapacityRecord.load(path) == first
    assert path.read_text().startswith("# What this site holds")


def test_a_newer_measurement_replaces_the_same_works_and_leaves_the_others(tmp_path):
    path = tmp_path / "hub.yaml"
    older = {"x": {"one": work(), "two": work()}, "y": {"three": work()}}
    record(pools=older, mixes={"m": capacity(shares={})}).merge_into(path)
    merged = record(pools={"x": {"two": work(below=12), "four": work()}}).merge_into(path)
    assert {pool: list(works) for pool, works in merged.pools.items()} == {
        "x": ["one", "two", "four"],
        "y": ["three"],
    }
    assert [each.below for each in merged.pools["x"].values()] == [11, 12, 11]
    assert list(merged.mixes) == ["m"]
    assert CapacityRecord.load(path) == merged
    kept = record(pools={"x": {"two": work(below=13), "five": work()}}).merge_into(path, replace=False)
    assert kept.pools["x"]["two"].below == 12
    assert "five" in kept.pools["x"]


def test_writers_at_the_same_time_lose_nothing(tmp_path):
    path = tmp_path / "hub.yaml"
    records = [record(pools={f"pool-{number}": {"w": work()}}) for number in range(20)]
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda each: each.merge_into(path), records))
    assert len(CapacityRecord.load(path).pools) == 20


def test_another_sites_record_is_not_written_over(tmp_path):
    path = tmp_path / "hub.yaml"
    record("edge", pools={"x": {"w": work()}}).merge_into(path)
    before = path.read_bytes()
    with pytest.raises(DeclarationError, match="of site `edge` cannot take up site `hub`"):
        record("hub").merge_into(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"at_least": None, "below": None, "per_second": None}, "no capacity"),
        ({"at_least": 12}, "must lie between"),
        ({"below": 10.2}, "must lie between"),
        ({"per_second": 0}, "greater than 0"),
        ({"confidence": 1}, "less than 1"),
        ({"persecond": 1}, "did you mean `per_second`"),
        ({"measured": {**MEASURED, "objectives": []}}, "at least 1 item"),
        ({"measured": {**MEASURED, "campaign_digest": "1"}}, "campaign_digest"),
    ],
)
def test_what_is_no_capacity_is_refused_with_a_reason(changes, words):
    declared = {"site": "hub", "pools": {"x": {"w": work(**changes)}}}
    with pytest.raises(DeclarationError) as refused:
        CapacityRecord.parse(str(declared).replace("None", "null"), where="hub.yaml")
    assert words in str(refused.value)
    assert "hub.yaml" in str(refused.value)


def test_a_fleet_reads_the_record_that_a_site_names_beside_its_file(tmp_path):
    written = record(pools={"x": {"w": work()}}).merge_into(tmp_path / "capacity" / "hub.yaml")
    fleet = Fleet.load(fleet_file(tmp_path))
    assert fleet.sites["hub"].capacity == tmp_path / "capacity" / "hub.yaml"
    assert fleet.capacity_at("hub") == written
    assert fleet.capacity_at("edge") is None


def test_a_record_that_is_missing_or_wrong_is_refused_when_the_fleet_is_read(tmp_path):
    path, named = fleet_file(tmp_path), tmp_path / "capacity" / "hub.yaml"
    with pytest.raises(DeclarationError, match=r"hub\.yaml: No such file"):
        Fleet.load(path)
    named.parent.mkdir()
    named.write_text("site: hub\npols: {}\n")
    with pytest.raises(DeclarationError, match="did you mean `pools`"):
        Fleet.load(path)
    named.write_text("site: edge\n")
    with pytest.raises(DeclarationError, match=r"site `hub` names .* of site `edge`") as refused:
        Fleet.load(path)
    assert "loadtest capacity" in refused.value.hint


def test_a_running_fleet_is_known_though_its_record_has_gone(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADEND_HOME", str(tmp_path / "home"))
    named = tmp_path / "capacity" / "hub.yaml"
    record().merge_into(named)
    fleet = Fleet.load(fleet_file(tmp_path))
    remember(fleet)
    directory = SiteDirectory(fleet.fleet, "hub")
    directory.create()
    (home() / "fleets" / "a" / "hub" / "spec.json").write_text("{}")
    named.unlink()
    with directory.hold():
        assert running_fleet() == fleet
