"""Roll-outs of apps, sites and routes on a real fleet that asks for keys, under steady requests of all kinds.

Each is cut off by kill -9 and gone on with, and rolled back, cut off once more; but for apps, whose every
restart takes long, it is cut off and taken back as well.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from built import TEST_HOME
from fleet_process import HEADEND, RunningFleet, declare, headend, processes_of
from steady import Clients, clients, review, scores_by_grpc, scores_by_http
from waiting import free_ports, until

import serving.apps.review

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(1200)]

RULES = {"watch_s": 0.5, "drain_s": 20}
KINDS = {"http": scores_by_http, "grpc": scores_by_grpc, "review": review}
PACKAGED = Path(serving.apps.review.__file__).with_name("policy.yaml")


@dataclass
class Changing:
    """A fleet whose declaration tests change."""

    fleet: RunningFleet
    key: dict[str, str]

    @property
    def at(self) -> tuple[str, str]:
        """The roll-out's status and step, as `one change`."""
        path = TEST_HOME / "fleets" / self.fleet.name / "rollout.json"
        if not path.exists():
            return "", ""
        now = json.loads(path.read_text())["position"]
        step = now["steps"][now["at"]]
        return now["status"], f"{step['site']} {step['kind']}"

    def start(self, command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [HEADEND, command, "--json", "-f", self.fleet.file],
            env={**os.environ, "HEADEND_HOME": str(TEST_HOME)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, command: str, code: int = 0) -> dict[str, Any]:
        process = self.start(command)
        said, told = process.communicate(timeout=400)
        assert process.returncode == code, told
        found: dict[str, Any] = json.loads(said)
        return found

    def cut_off(self, command: str, step: str) -> None:
        """kill -9 `command` as it does a step, as in `one change`."""
        process = self.start(command)

        def there() -> bool:
            assert process.poll() is None, process.communicate()
            return self.at == ("going", step)

        try:
            until(there, f"{command} at {step}")
        finally:
            process.kill()
            process.communicate()
        cut = self.fleet.status()["rollout"]
        assert (cut["status"], cut["alive"], f"{cut['site']} {cut['step']}") == ("going", False, step)

    def taken_back(self, step: str) -> None:
        """`apply`, cut off at a step, and `rollback`."""
        self.cut_off("apply", step)
        undone = self.run("rollback")
        assert (undone["status"], undone["reason"]) == ("undone", "headend rollback was asked for")
        assert self.is_clean()

    def gone_on(self, command: str, step: str) -> list[str]:
        """`apply` or `rollback`, cut off at a step, and asked again; the steps it took."""
        self.cut_off(command, step)
        done = self.run(command)
        assert done["status"] == "done"
        assert self.is_clean()
        return [f"{each['step']['site']} {each['step']['kind']}" for each in done["findings"]]

    def pids(self, *parts: str) -> dict[str, int]:
        sites = self.fleet.status()["sites"]
        return {f"{site} {part}": sites[site]["parts"][part]["pid"] for site in sites for part in parts}

    def asked(self, *sites: str) -> AbstractContextManager[Clients]:
        """Clients of all kinds at the front doors of `sites`."""
        return clients({site: self.fleet.door(site) for site in sites}, KINDS, self.key)

    def is_clean(self) -> bool:
        """All that runs is ready, and nothing of it drained; a site that was only declared does not run."""
        sites = self.fleet.status()["sites"]
        running = {name: site for name, site in sites.items() if site["state"] != "stopped"}
        return {"one", "two"} <= set(running) and all(
            site["state"] == "ready" and not site["draining"] for site in running.values()
        )


@pytest.fixture(scope="module")
def changing(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Changing]:
    folder = tmp_path_factory.mktemp("changing")
    fleet = declare(
        "changing",
        folder,
        ("one", "two"),
        models={"open-nsfw": {}},
        apps={"review": {}},
        access={},
        rollout=RULES,
    )
    fleet.write()
    shown = json.loads(headend("keys", "create", "tests", "--json", "-f", fleet.file).stdout)
    headend("up", "--detach", "-f", fleet.file)
    try:
        yield Changing(fleet, {"x-api-key": shown["key"]})
    finally:
        headend("down", "-f", fleet.file)
        assert processes_of(fleet.name) == []
        shutil.rmtree(bundles / "fleets" / fleet.name, ignore_errors=True)


def test_routes_change_and_change_back(changing: Changing) -> None:
    """A class, a placement and a headroom: front doors' and agents' business alone."""
    declaration, before = changing.fleet.declaration, changing.pids("triton", "serve", "envoy")
    declaration["models"] = {"open-nsfw": {"class": "live", "balancing": {"placement": "local-only"}}}
    declaration["apps"] = {"review": {"class": "batch", "balancing": {"headroom": {"batch": 0.7}}}}
    changing.fleet.write()
    with changing.asked("one", "two") as asking:
        changing.taken_back("two change")
        steps = changing.gone_on("apply", "one change")
        assert steps == ["one change", "one watch", "two change", "two watch"]
        changing.gone_on("rollback", "two change")
    assert asking.failures == []
    assert changing.pids("triton", "serve", "envoy") == before


def test_a_site_comes_and_goes(changing: Changing) -> None:
    fleet, ports = changing.fleet, free_ports(2)
    three = {"front_door": f"127.0.0.1:{ports[0]}", "peer": f"127.0.0.1:{ports[1]}", "apps": []}
    without = dict(fleet.declaration["sites"])
    fleet.declaration["sites"] = {**without, "three": three}
    fleet.write()
    with changing.asked("one", "two") as asking:
        changing.taken_back("one change")
        changing.gone_on("apply", "three start")
        with changing.asked("three", "one") as theirs:
            fleet.declaration["sites"] = without
            fleet.write()
            changing.taken_back("three stop")
            until(lambda: theirs.count("three") > 20, "answers at the site that is back", 30)
            steps = changing.gone_on("apply", "three close")
            assert steps[-2:] == ["three close", "three stop"]
            changing.gone_on("rollback", "three start")
            known = theirs.count("three")
            until(lambda: theirs.count("three") > known + 20, "answers at the site that is back again", 30)
            assert changing.run("apply")["status"] == "done"
        assert theirs.failures == []
    assert asking.failures == []
    assert asking.said("http") | asking.said("grpc") == theirs.said("http")


def test_an_app_changes_and_changes_back(changing: Changing) -> None:
    """Its replicas, its concurrency and its policy: Ray Serve starts anew, at one site after the other."""
    fleet = changing.fleet
    policy = yaml.safe_load(PACKAGED.read_text()) | {"policy": "strict"}
    (fleet.folder / "strict.yaml").write_text(yaml.safe_dump(policy, allow_unicode=True))
    before = changing.pids("triton", "envoy")
    fleet.declaration["apps"] = {"review": {"policy": "strict.yaml", "replicas": 2, "concurrency": 4}}
    fleet.write()
    with changing.asked("one", "two") as asking:
        steps = changing.gone_on("apply", "two drain")
        kinds = ("drain", "change", "undrain", "watch")
        assert steps == [f"{site} {kind}" for site in ("one", "two") for kind in kinds]
        asking.answers.clear()
        until(lambda: asking.said("review") == {"block strict"}, "the new policy at both sites", 30)
        changing.gone_on("rollback", "one undrain")
        asking.answers.clear()
        until(lambda: asking.said("review") == {"block broadcast-example"}, "the old one at both sites", 30)
    assert asking.failures == []
    assert changing.pids("triton", "envoy") == before
