"""An agent is told all that Envoy's files were derived from: what it writes differs in the plan only."""

from __future__ import annotations

from dataclasses import replace

from test_router_config import demo_view

from serving.fleet import demo_fleet
from serving.router import envoy
from serving.router.agent import kept
from serving.router.agent.config import AgentConfig
from serving.router.telemetry.facts import PoolFacts
from serving.router.view import Pool

ROWS = {(Pool("model", "open-nsfw"), "live"): {"hub": 0.25, "edge": 0.75}}


def test_the_view_survives_the_config_but_for_the_plan(tmp_path):
    view = demo_view()
    facts = {"model.open-nsfw": PoolFacts(instances=2)}
    config = AgentConfig(
        fleet=demo_fleet(),
        view=replace(view, plan=ROWS),
        triton_metrics=9007,
        facts=facts,
        directory=tmp_path,
    )
    path = tmp_path / "config.json"
    path.write_text(config.model_dump_json())
    read = AgentConfig.load(path)
    assert read == config.model_copy(update={"view": view})
    envoy.write_config(view, tmp_path / "envoy")
    assert envoy.write_shares(read.view, tmp_path / "envoy") == 0, "it says the same"


def test_the_last_plan_is_kept_over_a_restart(tmp_path):
    assert kept.read(tmp_path) == {}
    kept.write(tmp_path, ROWS)
    assert kept.read(tmp_path) == ROWS
    (tmp_path / "agent" / "plan.json").write_text("torn")
    assert kept.read(tmp_path) == {}, "no plan is better than none at all being written"
