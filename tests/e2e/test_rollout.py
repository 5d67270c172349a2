"""Roll-outs on two real sites under steady requests of both clients."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
import yaml
from fleet_process import HEADEND
from rollout_models import NAME, TOO_LARGE, VERSIONS, build_version
from waiting import free_ports, until

from models.errors import HeadendError
from models.files import write_atomic
from serving.fleet import Fleet
from serving.site.rollout import front_door
from serving.site.spec import SiteDirectory
from serving.site.status import status_of

pytestmark = pytest.mark.e2e

RULES = {"steps": [20, 60], "mirror": 100, "samples": 12, "patience_s": 8, "watch_s": 0.5, "drain_s": 6}


@dataclass
class Sites:
    """A fleet of two sites with one model, in a state directory of its own."""

    home: Path
    digests: dict[str, str]
    declaration: dict[str, Any]

    @property
    def file(self) -> Path:
        return self.home / "fleet.yaml"

    def door(self, site: str) -> str:
        return self.declaration["sites"][site]["front_door"]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [HEADEND, *arguments, "-f", str(self.file)],
            env={**os.environ, "HEADEND_HOME": str(self.home), "COLUMNS": "150"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        process = self.start(*arguments)
        said, told = process.communicate(timeout=200)
        assert process.returncode == code, f"{arguments}: {told}{said}"
        return said

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code))

    def state(self) -> dict[str, Any]:
        return json.loads((self.home / "fleets" / "rolling" / "rollout.json").read_text())

    def publish(self, version: str) -> None:
        """Make it the store's current one, as a build does."""
        pointer = self.home / "store" / "current" / f"{NAME}.json"
        pointer.write_text(json.dumps({"digest": self.digests[version]}))

    def serves(self) -> set[str]:
        """Versions that the sites' main Tritons serve, asked of themselves."""
        found = set()
        for site in self.declaration["sites"]:
            spec = SiteDirectory("rolling", site).read_spec()
            assert spec is not None
            port = spec.ports["triton-http"]
            config = httpx.get(f"http://127.0.0.1:{port}/v2/models/{NAME}/config").json()
            bundle = config["parameters"]["bundle"]["string_value"]
            found |= {version for version, digest in self.digests.items() if digest == bundle}
        return found

    def status(self) -> Any:
        return self.json("status")

    def is_clean(self) -> bool:
        """No canary, no judge, nothing drained, all ready."""
        found = status_of(Fleet.load(self.file), self.declaration["sites"])
        return found.ready and all(
            not {"canary", "judge"} & set(site.parts) and not site.draining for site in found.sites.values()
        )


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    home = tmp_path_factory.mktemp("rolling")
    before = os.environ.get("HEADEND_HOME")
    os.environ["HEADEND_HOME"] = str(home)
    ports = iter(free_ports(4))
    declaration = {
        "fleet": "rolling",
        "models": {NAME: {}},
        "rollout": RULES,
        "sites": {
            name: {"front_door": f"127.0.0.1:{next(ports)}", "peer": f"127.0.0.1:{next(ports)}"}
            for name in ("one", "two")
        },
    }
    digests = {version: build_version(version, home / "made" / version) for version in VERSIONS}
    made = Sites(home, digests, declaration)
    made.file.write_text(yaml.safe_dump(declaration))
    made.publish("first")
    try:
        made.run("up", "--detach")
        yield made
    finally:
        made.run("down")
        if before is None:
            del os.environ["HEADEND_HOME"]
        else:
            os.environ["HEADEND_HOME"] = before


@dataclass
class Traffic:
    """Requests without a pause, by HTTP and gRPC at both doors, every answer checked."""

    sites: Sites
    largest: float = 1.0
    answered: int = 0
    failures: list[str] = field(default_factory=list)

    def ask(self, client: Any, module: Any, ended: threading.Event) -> None:
        rng = np.random.default_rng()
        while not ended.is_set():
            x = rng.random((1, 64), np.float32) * self.largest
            tensor = module.InferInput("x", [1, 64], "FP32")
            tensor.set_data_from_numpy(x)
            try:
                y = client.infer(NAME, [tensor]).as_numpy("y")
                assert np.allclose(y, 2 * x, atol=1e-3), "a wrong answer"
                self.answered += 1
            except Exception as error:  # whatever it is, the client saw it
                self.failures.append(f"{time.strftime('%H:%M:%S')} {error!r}")
            time.sleep(0.05)


@contextmanager
def traffic(sites: Sites, largest: float = 1.0) -> Iterator[Traffic]:
    made, ended = Traffic(sites, largest), threading.Event()
    threads = [
        threading.Thread(
            target=made.ask, args=(module.InferenceServerClient(sites.door(site)), module, ended)
        )
        for site in sites.declaration["sites"]
        for module in (triton_http, triton_grpc)
    ]
    for thread in threads:
        thread.start()
    until(lambda: made.answered > 10, "first answers", 30)
    try:
        yield made
    finally:
        ended.set()
        for thread in threads:
            thread.join(60)


def steps_said(rollout: dict[str, Any]) -> dict[str, str]:
    return {
        f"{each['step']['site']} {each['step']['kind']} {each['step']['percent'] or ''}".strip(): each["said"]
        for each in rollout["findings"]
        if not each["undone"]
    }


def test_a_good_version_is_promoted_and_no_request_fails(sites: Sites) -> None:
    sites.publish("good")
    with traffic(sites) as clients, stream(sites, "one") as ask:
        ended = sites.json("apply")
        ask()
    assert clients.failures == []
    assert ended["status"] == "done"
    said = steps_said(ended)
    assert list(said) == [
        *(
            "one canary",
            "one shadow",
            "one share 20",
            "one share 60",
            "one change",
            "one watch",
            "one retire",
        ),
        *("two canary", "two shadow", "two share 60", "two change", "two watch", "two retire"),
    ]
    assert "12 recorded and" in said["one shadow"]
    assert "0 different" in said["one shadow"]
    assert sites.serves() == {"good"}
    assert sites.is_clean()
    assert sites.status()["rollout"]["status"] == "done"
    assert sites.json("apply")["steps"] == 0, "there is nothing more to do"


@pytest.mark.parametrize(
    ("version", "step", "why"),
    [
        ("wrong", "shadow", "compared requests have other outputs: output `y`"),
        ("slow", "shadow", "times as long"),
        ("failing", "shadow", "requests that the old one answered: "),
    ],
)
def test_a_bad_version_goes_back_by_itself(sites: Sites, version: str, step: str, why: str) -> None:
    served = sites.serves()
    sites.publish(version)
    # Only the failing one is sent what it cannot answer: nothing recorded is like it.
    with traffic(sites, 3 * TOO_LARGE if version == "failing" else 1.0) as clients:
        ended = sites.json("apply", code=1)
    assert clients.failures == [], "clients get nothing of what is tried in the shadow"
    assert ended["status"] == "undone"
    assert why in ended["reason"]
    assert [each["step"]["kind"] for each in ended["findings"] if not each["undone"]][-1] == step
    assert sites.serves() == served
    assert sites.is_clean()
    if version == "wrong":
        held = sites.json("apply")
        assert held["steps"] == 0, "it is not tried again by itself"
        assert why in held["held"][NAME]


def at_step(sites: Sites, kind: str) -> Callable[[], bool]:
    def look() -> bool:
        position = sites.state()["position"]
        return position["status"] == "going" and position["steps"][position["at"]]["kind"] == kind

    return look


def test_a_canary_that_crashes_is_turned_back(sites: Sites) -> None:
    served = sites.serves()
    sites.publish("first")
    with traffic(sites) as clients:
        process = sites.start("apply", "--json")
        until(at_step(sites, "share"), "the canary has a share", 90)
        state = SiteDirectory("rolling", "one").read_state()
        assert state is not None
        pid = next(part.pid for part in state.parts if part.name == "canary")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        said, told = process.communicate(timeout=120)
    assert process.returncode == 1, told
    assert "canary of site one crashed: killed by SIGKILL" in json.loads(said)["reason"]
    assert clients.failures == []
    assert sites.serves() == served
    assert sites.is_clean()


def test_cut_off_at_any_step_it_goes_on_or_back(sites: Sites) -> None:
    sites.publish("first")
    with traffic(sites) as clients:
        for kind in ("canary", "shadow", "share", "change", "retire"):
            process = sites.start("apply", "--again", "--canary", "60")
            until(at_step(sites, kind), kind, 90)
            process.kill()
            process.communicate()
        cut = sites.status()["rollout"]
        assert (cut["status"], cut["alive"], cut["site"], cut["step"]) == ("going", False, "one", "retire")
        assert "has begun and not ended" in sites.start("up", "--detach").communicate(timeout=60)[1]
        process = sites.start("rollback")
        until(lambda: sites.state()["position"]["status"] == "undoing", "going back", 60)
        process.kill()
        process.communicate()
        undone = sites.json("rollback")
    assert undone["status"] == "undone"
    assert undone["reason"] == "headend rollback was asked for"
    assert clients.failures == []
    assert sites.serves() == {"good"}
    assert sites.is_clean()


def test_a_rollback_brings_back_the_bundle_whatever_the_store_has(sites: Sites) -> None:
    sites.publish("slow")
    numbers = [each["number"] for each in sites.json("rollback", "--history")]
    with traffic(sites) as clients:
        back = sites.json("rollback")
    assert clients.failures == []
    assert back["bundles"] == {NAME: sites.digests["first"]}
    assert sites.serves() == {"first"}
    after = [each["number"] for each in sites.json("rollback", "--history")]
    assert after == [*numbers, numbers[-1] + 1]


@contextmanager
def stream(sites: Sites, site: str) -> Iterator[Callable[[], None]]:
    """A gRPC stream that is open until the block ends; what it gives asks once and checks the answer."""
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client = triton_grpc.InferenceServerClient(sites.door(site))
    client.start_stream(lambda result, error: answers.put((result, error)))
    x = np.ones((1, 64), np.float32)
    tensor = triton_grpc.InferInput("x", [1, 64], "FP32")
    tensor.set_data_from_numpy(x)

    def ask() -> None:
        client.async_stream_infer(NAME, [tensor])
        result, error = answers.get(timeout=20)
        assert error is None, error
        assert np.allclose(result.as_numpy("y"), 2 * x)

    ask()
    yield ask
    client.stop_stream()


def answered_by(sites: Sites, door: str) -> str:
    tensor = {"name": "x", "shape": [1, 64], "datatype": "FP32", "data": [1.0] * 64}
    url = f"http://{sites.door(door)}/v2/models/{NAME}/infer"
    return httpx.post(url, json={"inputs": [tensor]}, timeout=20).headers["x-headend-site"]


def test_a_stream_outlives_the_drain_of_its_site(sites: Sites) -> None:
    with traffic(sites) as clients:
        with stream(sites, "one") as ask:
            process = sites.start("drain", "one", "--json")
            until(lambda: answered_by(sites, "one") == "two", "the front door leads away", 30)
            until(lambda: httpx.get(f"http://{sites.door('one')}/readyz").status_code == 503, "readyz", 10)
            for _ in range(10):
                ask()
                time.sleep(0.1)
            assert process.poll() is None, "it waits for the stream"
        said, told = process.communicate(timeout=30)
        assert process.returncode == 0, told
        assert "nothing in flight after" in json.loads(said)["said"]
        assert sites.status()["sites"]["one"]["draining"]
        sites.run("undrain", "one")
        until(lambda: answered_by(sites, "one") == "one", "it answers again", 30)
    assert clients.failures == []
    assert httpx.get(f"http://{sites.door('one')}/readyz").status_code == 200


def test_what_envoy_refuses_is_told_in_its_words(sites: Sites) -> None:
    directory = SiteDirectory("rolling", "one")
    clusters = directory.path / "envoy" / "clusters.json"
    sound = json.loads(clusters.read_bytes())
    broken = json.loads(clusters.read_bytes())
    broken["resources"][0]["connect_timeout"] = "-1s"

    def replace(content: Any) -> None:
        with front_door.taken(directory):
            write_atomic(clusters, json.dumps(content).encode())

    try:
        with pytest.raises(HeadendError, match="refuses its new configuration") as refusal:
            replace(broken)
        assert "rejected" in refusal.value.hint
    finally:
        replace(sound)
