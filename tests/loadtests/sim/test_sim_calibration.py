"""Topologies measured from runs: simulated ones, whose truth is known."""

from typing import Any

import pytest
from simulated_fleets import CLS, REVIEW, campaign, constant, run, topology

from loadtests.campaign import Campaign
from loadtests.results import Result
from loadtests.sim.calibration import measured
from loadtests.sim.topology import Topology
from models.errors import UsageError
from serving.fleet import demo_fleet

TEXTS = {"name": "texts", "app": REVIEW, "client": "http", "input": "clean-texts"}
PICTURES = {"name": "pictures", "app": REVIEW, "client": "http", "input": "captions"}
LINES = {"name": "lines", "model": CLS, "client": "http", "input": "text-lines", "class": "live"}
TRUTH = topology(
    {"hub": {}, "edge": {}},
    pools={
        CLS: {
            "service": {1: {"kind": "lognormal", "mean_ms": 12, "cv": 0.6}},
            "overhead": constant(3),
            "waiting": 64,
            "max_batch": 32,
        },
        REVIEW: {
            "kind": "app",
            "service": {1: {"kind": "lognormal", "mean_ms": 20, "cv": 0.5}},
            "inputs": {"captions": {1: {"kind": "lognormal", "mean_ms": 300, "cv": 0.3}}},
            "instances": 8,
            "waiting": 32,
        },
    },
    network={"rtt_ms": 8},
    telemetry_s=0,
)


def load(rate: float, seconds: float, **more: Any) -> Campaign:
    return campaign(rate, seconds, workload=[TEXTS, PICTURES, LINES], **more)


def of_demo_fleet(result: Result) -> Result:
    """As if the demo fleet had answered, its sites with one thread each: one copy of each model."""
    fleet = demo_fleet().model_dump(mode="json")
    for site in fleet["sites"].values():
        site["threads"] = 1
    return result.model_copy(update={"fleet": fleet})


@pytest.fixture(scope="module")
def calm() -> Result:
    """A run at low load, in which some requests are answered elsewhere."""
    return of_demo_fleet(run(load(6, 1_500), TRUTH, "static-shares"))


def test_what_is_measured_is_what_was_there(calm: Result) -> None:
    found = measured([calm])
    model, app = found.pools[CLS], found.pools[REVIEW]
    assert list(found.sites) == ["hub", "edge"]
    assert (model.max_batch, model.waiting, model.instances) == (32, 64, 1)
    assert (app.kind, app.instances, app.waiting) == ("app", 8, 32)
    assert model.service[1].mean_ms == pytest.approx(12, rel=0.05)
    assert model.overhead is not None
    assert model.overhead.mean_ms == pytest.approx(3, abs=0.5)
    assert app.inputs["clean-texts"][1].mean_ms == pytest.approx(20, rel=0.05)
    assert app.inputs["captions"][1].mean_ms == pytest.approx(300, rel=0.05)
    assert found.network.rtt_ms == pytest.approx(8, abs=1.5)
    assert not found.machines
    assert Topology.parse(found.to_yaml(), where="itself") == found


def test_the_measured_fleet_behaves_like_the_real_one_under_more_load(calm: Result) -> None:
    """Another rate, another seed, another policy."""
    more = load(60, 300, seed=9)
    real, simulated = (run(more, fleet).histogram("response") for fleet in (TRUTH, measured([calm])))
    assert simulated.mean_ms == pytest.approx(real.mean_ms, rel=0.05)
    assert simulated.percentile_ms(99) == pytest.approx(real.percentile_ms(99), rel=0.1)


def test_sites_may_share_a_machine(calm: Result) -> None:
    found = measured([calm], cores=2, busy={CLS: 2})
    assert {site.machine for site in found.sites.values()} == {"shared"}
    assert found.machines["shared"].cores == 2
    assert (found.pools[CLS].cores, found.pools[REVIEW].cores) == (2, 1)


def test_rows_are_told_apart() -> None:
    works = [{**LINES, "name": f"lines{rows}", "batch": rows} for rows in (1, 8)]
    truth = topology(
        {"hub": {}, "edge": {}}, pools={CLS: {"service": {1: constant(5), 8: constant(12)}, "max_batch": 8}}
    )
    run_ = of_demo_fleet(run(campaign(2, 300, workload=works), truth))
    service = measured([run_]).pools[CLS].service
    assert list(service) == [1, 8]
    assert service[8].mean_ms - service[1].mean_ms == pytest.approx(7, abs=0.5)


def test_batches_are_measured_where_the_server_made_them() -> None:
    truth = topology(
        {"hub": {}, "edge": {}},
        pools={CLS: {"service": {1: constant(5), 8: constant(12)}, "max_batch": 8, "overhead": constant(2)}},
    )
    rising = campaign(1, 60, workload=[LINES], arrivals=[{"kind": "ramp", "start": 5, "end": 700}])
    found = measured([of_demo_fleet(run(rising, truth))]).pools[CLS]
    least, most = sorted(found.service)
    assert (least, most > 1) == (1, True)
    assert found.service[1].mean_ms == pytest.approx(5, rel=0.1)
    assert found.service[most].mean_ms == pytest.approx(4 + most, rel=0.1)
    assert found.overhead is not None
    assert found.overhead.mean_ms == pytest.approx(2, abs=1)


def test_what_cannot_be_measured(calm: Result) -> None:
    with pytest.raises(UsageError, match="whose fleet is known"):
        measured([calm.model_copy(update={"fleet": None})])
    with pytest.raises(UsageError, match="whose fleet is known"):
        measured([])
    with pytest.raises(UsageError, match="nothing was answered"):
        measured([calm.model_copy(update={"series": []})])
    with pytest.raises(UsageError, match="it is of simulated: made"):
        measured([run(load(6, 10), TRUTH)])
