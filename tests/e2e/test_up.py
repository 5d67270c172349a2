"""The demo fleet's life: what is told of it, calls, and kill -9 of each real part."""

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest
import tritonclient.http as triton_http
from fleet_process import headend
from steady import PICTURE
from waiting import until

pytestmark = pytest.mark.e2e


def test_status_tells_everything_of_a_ready_fleet(fleet):
    status = fleet.status()
    assert status["ready"] is True
    assert set(status["sites"]) == {"hub", "edge"}
    for site in status["sites"].values():
        assert site["state"] == "ready"
        assert psutil.pid_exists(site["pid"])
        assert set(site["parts"]) == {"triton", "serve", "envoy", "agent"}
        for part in site["parts"].values():
            assert part["state"] == "ready"
            assert psutil.pid_exists(part["pid"])
            assert part["memory"] > 10 << 20
            assert all(0 < port < 65536 for port in part["ports"].values())
    names = {part: psutil.Process(of["pid"]).name() for part, of in status["sites"]["hub"]["parts"].items()}
    assert names["triton"] == "tritonserver"
    assert names["envoy"] == "envoy"


def test_routes_show_how_load_is_shared_and_explain_it(fleet):
    routes = until(lambda: _planned(fleet), "a plan of both sites that know each other", 60)
    assert set(routes) == {"hub", "edge"}
    for site, known in routes.items():
        assert set(known["sites"]) == {"hub", "edge"}
        for classes in known["shares"].values():
            for row in classes.values():
                assert sum(row.values()) == pytest.approx(1)
        assert known["sites"][site]["pools"]["model.open-nsfw"]["ready"]
        assert known["sites"][site]["pools"]["app.review"]["ready"]
    words = headend("routes", "explain", "open-nsfw", "--from", "edge", "-f", fleet.file).stdout
    assert "model.open-nsfw from edge" in words
    assert "Pools: " in headend("routes", "explain", "nobody", "-f", fleet.file, code=2).stderr
    table = headend("routes", "-f", fleet.file).stdout
    assert "front door" in table
    assert "as hub knows" in table


def _planned(fleet):
    routes = json.loads(headend("routes", "-f", fleet.file, "--json").stdout)
    seen = [site for door in routes.values() for site in door["sites"].values()]
    heard = all(site["heard"] and not site["stale"] for site in seen)
    return routes if heard and all("model.open-nsfw" in door["shares"] for door in routes.values()) else None


def test_the_whole_demo_stays_under_six_gibibytes(fleet):
    assert fleet.status()["memory"] < 6 << 30


def test_inner_ports_are_open_to_this_machine_only(fleet):
    ours = {
        port
        for site in fleet.status()["sites"].values()
        for part in site["parts"].values()
        for port in part["ports"].values()
    }
    listening = [c.laddr for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert ours <= {address.port for address in listening}
    loopback = {"127.0.0.1", "::ffff:127.0.0.1"}  # the second is how gRPC writes the first
    assert {address.ip for address in listening if address.port in ours} <= loopback


def test_a_second_up_says_what_is_running_and_changes_nothing(fleet):
    before = fleet.status()
    done = headend("up", "-f", fleet.file, "--detach")
    assert "hub" in done.stdout
    assert "is ready" in done.stdout
    plan = json.loads(headend("plan", "-f", fleet.file, "--json").stdout)
    assert plan["changes"] is False
    pids = [[part["pid"] for part in site["parts"].values()] for site in before["sites"].values()]
    after = fleet.status()
    assert pids == [[part["pid"] for part in site["parts"].values()] for site in after["sites"].values()]


def test_call_subtitles_and_review(fleet):
    clip = next(Path(__file__).parents[2].glob("models/catalog/whisper-base/clips/aishell*.wav"))
    done = headend("call", "subtitles", clip, "--site", "hub", "--format", "srt", "-f", fleet.file)
    assert "00:00:0" in done.stdout
    assert "-->" in done.stdout
    picture = Path(__file__).parents[2] / "models/catalog/ppocr-det/cases/caption.jpg"
    done = headend("call", "review", picture, "-f", fleet.file)
    assert done.stdout.startswith("pass")
    assert "reads" in done.stdout
    answer = json.loads(headend("call", "review", "你好", "--json", "-f", fleet.file).stdout)
    assert answer["answer"]["results"][0]["headend"]["decision"] == "pass"
    broken = headend("call", "subtitles", Path(__file__), "-f", fleet.file, code=1)
    assert "HTTP 4" in broken.stderr


class Steady:
    """Requests one after the other through one front door, until told to stop; every failure is kept."""

    def __init__(self, door):
        self.answered, self.failures = 0, []
        self._door, self._stop = door, threading.Event()

    def run(self):
        model = triton_http.InferenceServerClient(self._door, network_timeout=60, connection_timeout=60)
        tensor = triton_http.InferInput("input:0", PICTURE.shape, "FP32")
        tensor.set_data_from_numpy(PICTURE)
        app = httpx.Client(base_url=f"http://{self._door}", timeout=60)
        while not self._stop.is_set():
            try:
                scores = model.infer("open-nsfw", [tensor]).as_numpy("outputs")
                assert scores.shape == (1, 2)
                answer = app.post("/v1/moderations", json={"model": "review", "input": "你好"})
                assert answer.status_code == 200, answer.text
                self.answered += 1
            except Exception as error:  # whatever it is, the client saw it
                # Triton's exceptions say what happened in their text alone.
                self.failures.append(f"{time.strftime('%H:%M:%S')} {type(error).__name__}: {error}")
            time.sleep(0.02)

    def stop(self):
        self._stop.set()


@contextmanager
def steady_requests(*doors):
    streams = [Steady(door) for door in doors]
    with ThreadPoolExecutor(len(streams)) as pool:
        running = [pool.submit(stream.run) for stream in streams]
        until(lambda: all(stream.answered > 2 for stream in streams), "first answers")
        try:
            yield streams
        finally:
            for stream in streams:
                stream.stop()
            for each in running:
                each.result(90)


def _named(pid, *words):
    """The pid's descendant (or itself) whose command line has all `words`."""
    process = psutil.Process(pid)
    for each in (process, *process.children(recursive=True)):
        line = " ".join(each.cmdline())
        if all(word in line for word in words):
            return each.pid
    raise AssertionError(f"no process with {words} under {pid}")


VICTIMS = {
    "triton": ("triton", "tritonserver"),
    "a model's Python process": ("triton", "triton_python_backend_stub"),
    "the Serve driver": ("serve", "serving.apps.server"),
    "a Serve replica": ("serve", "ray::ServeReplica", "review"),
    "the raylet": ("serve", "raylet/raylet"),
    "the GCS": ("serve", "gcs_server"),
}


@pytest.mark.parametrize("victim", VICTIMS)
def test_killing_a_part_fails_no_request_at_either_front_door(fleet, victim):
    part, *words = VICTIMS[victim]
    fleet.wait_ready()
    before = fleet.part("hub", part)
    pid = _named(before["pid"], *words)
    with steady_requests(fleet.door("hub"), fleet.door("edge")) as streams:
        os.kill(pid, signal.SIGKILL)
        time.sleep(3)
        fleet.wait_ready()
        after = [stream.answered for stream in streams]
        until(lambda: all(s.answered > n + 2 for s, n in zip(streams, after, strict=True)), "more answers")
    assert [stream.failures for stream in streams] == [[], []]
    with suppress(psutil.NoSuchProcess):
        assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_killing_envoy_leaves_the_other_front_door_and_comes_back(fleet):
    fleet.wait_ready()
    before = fleet.part("hub", "envoy")
    with steady_requests(fleet.door("edge")) as (stream,):
        os.kill(before["pid"], signal.SIGKILL)
        until(lambda: fleet.part("hub", "envoy")["restarts"] == before["restarts"] + 1, "Envoy restarted")
        fleet.wait_ready()
    assert stream.failures == []
    assert fleet.part("hub", "envoy")["ports"] == before["ports"]
    assert httpx.get(f"{fleet.url('hub')}/readyz").status_code == 200


def test_killing_a_supervisor_ends_its_site_only_and_up_brings_it_back(fleet):
    fleet.wait_ready()
    site = fleet.status()["sites"]["hub"]
    processes = psutil.Process(site["pid"]).children(recursive=True)
    assert len(processes) > 10
    with steady_requests(fleet.door("edge")) as (stream,):
        os.kill(site["pid"], signal.SIGKILL)
        until(lambda: not any(p.is_running() for p in processes), "the site's processes gone", 30)
        found = headend("status", "-f", fleet.file, code=1)
        assert "its supervisor was killed" in found.stdout
        headend("up", "-f", fleet.file, "--detach")
    assert stream.failures == []
    assert fleet.status()["ready"]


def test_logs_of_parts(fleet):
    lines = headend("logs", "hub", "triton", "-n", "2000", "-f", fleet.file).stdout
    assert "Started GRPCInferenceService" in lines
    everything = headend("logs", "hub", "-n", "5", "-f", fleet.file, "--json").stdout
    assert {json.loads(line)["part"] for line in everything.splitlines()} >= {"triton", "serve", "supervisor"}
