"""`headend loadtest simulate`."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from simulated_fleets import CLS, campaign, constant, exponential, run, topology
from typer.testing import CliRunner

from loadtests import campaign as campaigns
from loadtests.campaign import Campaign
from loadtests.results import Result
from loadtests.sim import Topology, command
from loadtests.sim.topology import shipped
from models.errors import DeclarationError, UsageError
from serving.fleet import demo_fleet

APP = typer.Typer()
APP.command()(command)
POOLS = {CLS: {"service": {1: exponential(10)}, "overhead": constant(1)}}


def simulate(*arguments: object) -> Any:
    found = CliRunner().invoke(APP, [str(each) for each in arguments])
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A campaign and a topology."""
    load = campaign(60, 20, objectives={"classes": {"live": {"p99_ms": 500}}, "error_rate": 0.01})
    paths = tmp_path / "load.yaml", tmp_path / "fleet.yaml"
    paths[0].write_text(yaml.safe_dump(load.model_dump(mode="json", by_alias=True)), "utf-8")
    paths[1].write_text(topology(3, pools=POOLS).to_yaml(), "utf-8")
    return paths


def test_all_policies_in_a_table(files: tuple[Path, Path]) -> None:
    found = simulate(files[0], "--topology", files[1])
    assert found.exit_code == 0
    for name in ("headend", "local-only", "prequal", "clairvoyant", "p99 ms", "goodput"):
        assert name in found.stdout


def test_chosen_policies_as_json_and_in_folders(files: tuple[Path, Path], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    found = simulate(files[0], "-t", files[1], "-p", "headend", "-p", "round-robin", "--out", runs, "--json")
    document = json.loads(found.stdout)
    assert list(document["policies"]) == ["headend", "round-robin"]
    assert all(row["mean_over_bound"] > 0.95 for row in document["policies"].values())
    assert sorted(path.name for path in runs.iterdir()) == ["headend", "round-robin", "topology.yaml"]
    result = Result.load(runs / "headend")
    assert (result.verdict, result.hardware) == ("held", "simulated: made")
    assert result.histogram("response").mean_ms == document["policies"]["headend"]["mean_ms"]
    assert (runs / "headend" / "requests.csv.gz").exists()
    assert Topology.load(runs / "topology.yaml") == Topology.load(files[1])
    with pytest.raises(UsageError, match="holds a run already"):
        simulate(files[0], "-t", files[1], "-p", "headend", "--out", runs)


def test_a_simulated_run_has_a_report_like_any_other(files: tuple[Path, Path], tmp_path: Path) -> None:
    simulate(files[0], "-t", files[1], "-p", "headend", "--out", tmp_path / "runs", "--report")
    assert "simulated: made" in (tmp_path / "runs" / "headend" / "report.html").read_text("utf-8")


def test_a_run_may_stand_for_the_topology(files: tuple[Path, Path], tmp_path: Path) -> None:
    real = run(campaign(5, 60), topology({"hub": {}, "edge": {}}, pools=POOLS))
    real.model_copy(update={"fleet": demo_fleet().model_dump(mode="json")}).save(tmp_path)
    found = simulate(files[0], "--topology", tmp_path, "--policy", "headend", "--json")
    assert json.loads(found.stdout)["topology"] == "demo"


@pytest.mark.parametrize("name", ["smoke", "site-loss"])
def test_shipped_campaigns_on_the_shipped_topology(name: str) -> None:
    found = simulate(name, "-t", "ten-sites", "-p", "headend", "--json")
    assert json.loads(found.stdout)["policies"]["headend"]["sent"] > 0


def test_shipped_topologies_serve_every_shipped_campaign() -> None:
    for path in shipped().values():
        fleet = Topology.load(path)
        for load in map(Campaign.load, campaigns.shipped().values()):
            assert not fleet.missing(work.pool for work in load.workload)
            named = {each.site for each in [*load.arrivals, *load.events] if each.site}
            assert named <= set(fleet.sites)


def test_what_is_wrong_is_said(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no policy `fastest`"):
        simulate(files[0], "-t", files[1], "-p", "fastest")
    with pytest.raises(DeclarationError, match=r"nowhere\.yaml"):
        simulate(files[0], "-t", tmp_path / "nowhere.yaml")
    with pytest.raises(DeclarationError, match="no topology `ten`"):
        simulate(files[0], "-t", "ten")
    with pytest.raises(DeclarationError, match="no campaign `unknown`"):
        simulate("unknown", "-t", files[1])
