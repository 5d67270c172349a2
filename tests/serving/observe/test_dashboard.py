"""The dashboard and the alerts ask for what a running site really shows, and Prometheus would read it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.testing import CliRunner
from waiting import free_ports, until

from serving.fleet import Fleet
from serving.observe.alerts import rules
from serving.observe.dashboard import dashboard
from serving.observe.scraping import scrape_config
from serving.router import envoy
from serving.router.agent.config import AgentConfig
from serving.router.telemetry.facts import PoolFacts
from serving.router.view import FleetView, LocalPorts
from serving.site.spec import PartSpec, SiteDirectory, SiteSpec
from serving.triton import server
from tests.serving.router.router_parts import Part

MODELS = Path(__file__).parent.parent / "router" / "models"
FLEET = """
fleet: watched
models: {{echo: {{}}}}
sites:
  here: {{front_door: "127.0.0.1:{0}", peer: "127.0.0.1:{1}"}}
  there: {{front_door: "127.0.0.1:{2}", peer: "127.0.0.1:{3}"}}
"""
Labels = Mapping[str, str]

# Selectors of a PromQL expression, once what is in quotes is gone: `metric{label op}`.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)")
_SELECTOR = re.compile(r"\b([a-z][a-z0-9_]+)\b(?!\s*\()(?:\{([^}]*)\})?")
_WORDS = {"by", "and", "or", "unless", "on", "bool", "s", "m"}


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Metrics that an expression asks for, each with the labels that it chooses by."""
    bare = re.sub(r"\[[^\]]*\]", "", _GROUPING.sub(" ", _QUOTED.sub("", expression)))
    for metric, matchers in _SELECTOR.findall(bare):
        if metric not in _WORDS:
            yield metric, {part.strip(" =~!") for part in matchers.split(",") if part.strip()}


def test_selectors_are_found() -> None:
    asked = (
        'histogram_quantile(0.9, sum by (le, b) (rate(a_bucket{x=~"1{2}", y!=""}[5m]))) / on (b) c_total > 0'
    )
    assert list(selectors(asked)) == [("a_bucket", {"x", "y"}), ("c_total", set())]


def expressions() -> list[str]:
    panels = [target["expr"] for each in dashboard()["panels"] for target in each.get("targets", ())]
    return panels + [rule["expr"] for rule in rules()["groups"][0]["rules"]]


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteSpec]:
    """A running site that has answered: Triton, Envoy and the agent."""
    root = tmp_path_factory.mktemp("watched")
    fleet = Fleet.parse(FLEET.format(*free_ports(4)), where="the test's fleet")
    http, grpc, metrics, admin, agent = free_ports(5)
    view = FleetView.of(fleet, "here", LocalPorts(http, grpc, {}, admin, agent=agent))
    parts = [_triton(root, http, grpc, metrics), _envoy(view, root), _agent(fleet, view, metrics, root)]
    try:
        for part in parts:
            part.start()
        for part in parts:
            part.wait()
        tensor = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}
        door = f"http://127.0.0.1:{view.local.front_door.port}/v2/models/echo/infer"
        for _ in range(5):
            assert httpx.post(door, json={"inputs": [tensor]}, timeout=10).is_success
        own = f"http://127.0.0.1:{agent}/metrics"
        until(lambda: "headend_plan_age_seconds" in httpx.get(own, timeout=10).text, "a first plan", 30)
        yield SiteSpec(
            fleet="watched",
            site="here",
            front_door="",
            parts=[
                PartSpec(name="triton", argv=[], ready="", ports={"metrics": metrics}),
                PartSpec(name="envoy", argv=[], ready="", ports={"admin": admin}),
                PartSpec(name="agent", argv=[], ready="", ports={"http": agent}),
            ],
        )
    finally:
        for part in parts:
            part.end()
        for part in parts:
            part.wait_for_end()


def _triton(root: Path, http: int, grpc: int, metrics: int) -> Part:
    shutil.copytree(MODELS / "echo", root / "models" / "echo")
    argv, env = server.command(root / "models", http, grpc, metrics, ["echo"], root / "runtime")
    return Part(argv, f"http://127.0.0.1:{http}/v2/health/ready", root / "triton.log", env)


def _envoy(view: FleetView, root: Path) -> Part:
    envoy.write_config(view, root / "envoy", access_log=root / "access.log")
    ready = f"http://127.0.0.1:{view.local.front_door.port}/readyz"
    return Part(envoy.command(root / "envoy", workers=1), ready, root / "envoy.log")


def _agent(fleet: Fleet, view: FleetView, metrics: int, root: Path) -> Part:
    facts = {"model.echo": PoolFacts(version="0", instances=1, room=8, capacity=50)}
    config = AgentConfig(fleet=fleet, view=view, triton_metrics=metrics, facts=facts, directory=root)
    path = root / "agent.json"
    path.write_text(config.model_dump_json())
    ready = f"http://127.0.0.1:{view.ports.agent}/-/alive"
    return Part([sys.executable, "-m", "serving.router.agent", str(path)], ready, root / "agent.log")


def scraped(spec: SiteSpec) -> dict[str, list[Labels]]:
    """As Prometheus would have it: the labels of each series, by metric."""
    found: dict[str, list[Labels]] = defaultdict(list)
    for job in scrape_config([spec])["scrape_configs"]:
        for group in job["static_configs"]:
            for target in group["targets"]:
                text = httpx.get(f"http://{target}{job['metrics_path']}", timeout=10).text
                for metric, labels in series_of(text):
                    if labels is None:
                        found[metric] += []
                    else:
                        found[metric].append(_labelled(labels, group["labels"], job))
                found["up"].append({**group["labels"], "job": job["job_name"]})
    return found


def series_of(text: str) -> Iterator[tuple[str, Labels | None]]:
    """Of Prometheus' text format: every series, and (with None) every metric that is announced.

    Not by prometheus_client's parser, which adds `_total` to the names of Envoy's counters.
    """
    for line in text.splitlines():
        if announced := re.match(r"# TYPE (\S+)", line):
            yield announced[1], None
        elif sample := re.match(r"(\w+)(?:\{(.*)\})? ", line):
            yield sample[1], dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', sample[2] or ""))


def _labelled(own: Labels, of_target: Labels, job: dict[str, Any]) -> Labels:
    labels = {f"exported_{key}" if key in of_target else key: value for key, value in own.items()}
    labels |= {**of_target, "job": job["job_name"]}
    for rule in job["metric_relabel_configs"]:
        (source,) = rule["source_labels"]
        if match := re.fullmatch(rule["regex"], labels.get(source, "")):
            labels[rule["target_label"]] = match.expand(rule["replacement"].replace("$", "\\"))
    return labels


@pytest.mark.e2e
def test_every_expression_asks_for_what_a_running_site_shows(spec: SiteSpec) -> None:
    series = scraped(spec)
    asked = {
        (metric, label) for each in expressions() for metric, found in selectors(each) for label in found
    }
    metrics = {metric for each in expressions() for metric, _ in selectors(each)}
    assert metrics - set(series) == set()
    shown = {(metric, label) for metric, each in series.items() for labels in each for label in labels}
    # Of what has not happened yet (a failed plan), a metric has no series.
    assert {(metric, label) for metric, label in asked - shown if series[metric]} == set()


@pytest.mark.e2e
def test_pools_and_classes_come_out_of_the_front_doors_names(spec: SiteSpec) -> None:
    series = scraped(spec)
    offered = series["envoy_vhost_route_upstream_rq_total"]
    assert {
        (each["pool"], each["class"]) for each in offered if each["envoy_virtual_host"] == "front-door"
    } >= {
        ("echo", "live"),
        ("echo", "interactive"),
        ("echo", "batch"),
    }
    ways = {
        each.get("way") for each in series["envoy_cluster_membership_total"] if each.get("pool") == "echo"
    }
    assert ways >= {"http", "http.local", "live"}
    assert {each["pool"] for each in series["nv_inference_request_success"]} == {"echo"}


@pytest.mark.e2e
@pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")), reason="no Prometheus here"
)
def test_prometheus_itself_reads_the_site_and_answers_every_expression(
    spec: SiteSpec, tmp_path: Path
) -> None:
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(scrape_config([spec])))
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules()))
    subprocess.run(["promtool", "check", "config", tmp_path / "prometheus.yaml"], check=True)
    (port,) = free_ports(1)
    where = f"127.0.0.1:{port}"
    options = {"config.file": tmp_path / "prometheus.yaml", "storage.tsdb.path": tmp_path / "data"}
    argv = ["prometheus", *(f"--{name}={value}" for name, value in options.items())]
    part = Part([*argv, f"--web.listen-address={where}"], f"http://{where}/-/ready", tmp_path / "log")
    part.start()
    try:
        part.wait()

        def ask(expression: str) -> list[Any]:
            for name, value in (("$__rate_interval", "1m"), ("$__range", "1m")):
                expression = expression.replace(name, value)
            expression = re.sub(r"\$\{?(site|pool|class)(:regex)?\}?", ".+", expression)
            answer = httpx.get(f"http://{where}/api/v1/query", params={"query": expression}, timeout=30)
            assert answer.json()["status"] == "success", f"{expression}: {answer.text}"
            found: list[Any] = answer.json()["data"]["result"]
            return found

        until(lambda: len(ask("count_over_time(up[1m]) > 2")) == 3, "three scrapes of each part", 60)
        assert [series["value"][1] for series in ask("up")] == ["1", "1", "1"]
        panels = [
            (each["title"], target["expr"])
            for each in dashboard()["panels"]
            for target in each.get("targets", ())
        ]
        empty = {title for title, expression in panels if not ask(expression)}
        for rule in rules()["groups"][0]["rules"]:
            ask(rule["expr"])
        # Nothing has failed here, and the other site does not run.
        assert empty <= {"Not answered, by class", "Round trip between sites"}
    finally:
        part.end()
        part.wait_for_end()


def test_a_site_has_the_jobs_of_its_parts() -> None:
    parts = [
        PartSpec(name="envoy", argv=[], ready="", ports={"admin": 1, "peer": 2}),
        PartSpec(name="triton", argv=[], ready="", ports={"metrics": 3}),
    ]
    specs = [
        SiteSpec(fleet="f", site="a", front_door="", parts=parts),
        SiteSpec(fleet="f", site="b", front_door="", parts=parts[:1]),
    ]
    found = {job["job_name"]: job for job in scrape_config(specs)["scrape_configs"]}
    assert set(found) == {"headend-envoy", "headend-triton"}
    assert [each["labels"]["site"] for each in found["headend-envoy"]["static_configs"]] == ["a", "b"]
    assert found["headend-triton"]["static_configs"] == [
        {"targets": ["127.0.0.1:3"], "labels": {"fleet": "f", "site": "a"}}
    ]


def test_panels_do_not_overlap_and_are_told_apart() -> None:
    panels = dashboard()["panels"]
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + dx, at["y"] + dy) for dx in range(at["w"]) for dy in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)


def test_the_command_writes_what_grafana_and_prometheus_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving.cli import app

    monkeypatch.setenv("HEADEND_HOME", str(tmp_path / "home"))
    run = CliRunner().invoke
    assert run(app, ["dashboards", "export", str(tmp_path)]).exit_code == 0
    assert json.loads((tmp_path / "headend.json").read_text()) == dashboard()
    assert yaml.safe_load((tmp_path / "alerts.yaml").read_text()) == rules()
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(FLEET.format(1, 2, 3, 4))
    asked = ["dashboards", "scrape-config", "-f", str(fleet)]
    assert "headend up" in str(run(app, asked).exception.__dict__)
    parts = [PartSpec(name="envoy", argv=[], ready="", ports={"admin": 7})]
    directory = SiteDirectory("watched", "here")
    directory.create()
    directory.write_spec(SiteSpec(fleet="watched", site="here", front_door="", parts=parts))
    targets = yaml.safe_load(run(app, asked).stdout)["scrape_configs"][0]["static_configs"]
    assert targets == [{"targets": ["127.0.0.1:7"], "labels": {"fleet": "watched", "site": "here"}}]
