"""Sites' lives: up, plan, change, crash, down. Real Triton, Ray Serve and Envoy, and kill -9 of each."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.http as triton_http
import yaml
from built import TEST_HOME
from fleet_process import HEADEND, RunningFleet, headend, processes_of
from waiting import until

pytestmark = pytest.mark.e2e

PICTURE = np.zeros((1, 224, 224, 3), np.float32)


# The demo fleet.


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
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


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


# Small fleets, each for one fault.


def ports_answer(fleet, site="one"):
    try:
        return httpx.get(f"{fleet.url(site)}/healthz", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("interrupt", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("when", ["starting", "ready"])
def test_an_interrupt_leaves_no_process(small, interrupt, when):
    fleet = small()
    fleet.up()
    if when == "ready":
        fleet.wait()
    else:
        until(lambda: "is starting" in fleet.log.read_text(), "starting")
    assert processes_of(fleet.name)
    fleet.process.send_signal(interrupt)
    assert fleet.process.wait(60) == 130
    assert processes_of(fleet.name) == []
    assert not list(Path("/dev/shm").glob("*small*"))


def test_a_second_interrupt_hurries(small):
    fleet = small()
    fleet.up()
    fleet.wait()
    # A stopped process cannot end by itself within its grace.
    os.kill(fleet.part("one", "triton")["pid"], signal.SIGSTOP)
    fleet.process.send_signal(signal.SIGINT)
    time.sleep(1.5)
    assert fleet.process.poll() is None
    begun = time.monotonic()
    fleet.process.send_signal(signal.SIGINT)
    assert fleet.process.wait(60) == 130
    assert time.monotonic() - begun < 10
    assert processes_of(fleet.name) == []


def test_killing_up_ends_what_it_started(small):
    fleet = small()
    fleet.up()
    fleet.wait()
    fleet.process.kill()
    until(lambda: not processes_of(fleet.name), "everything gone", 40)


def test_detach_down_and_the_ports_it_keeps(small):
    fleet = small()
    headend("up", "-f", fleet.file, "--detach")
    assert fleet.status()["ready"]
    ports = fleet.part("one", "triton")["ports"]
    assert "stopped" in headend("down", "-f", fleet.file).stderr
    assert processes_of(fleet.name) == []
    status = fleet.status()
    assert status["ready"] is False
    assert status["memory"] == 0
    headend("up", "-f", fleet.file, "--detach")
    assert fleet.part("one", "triton")["ports"] == ports


def test_detach_fails_with_the_log_of_what_cannot_become_ready(small, tmp_path):
    fleet = small(apps={"review": {}})
    # The directory of Ray's sockets has a known name; a link in its place is refused by the apps' server.
    run = TEST_HOME / "fleets" / fleet.name / "one" / "serve" / "run"
    name = f"headend-{os.getuid()}-{hashlib.sha256(str(run).encode()).hexdigest()[:12]}"
    link = Path(tempfile.gettempdir()) / name
    link.symlink_to(tmp_path)
    try:
        done = headend("up", "-f", fleet.file, "--detach", code=1)
        assert "serve of site one is failed: exit status 1 (4 starts, never ready)" in done.stderr
        assert f"{link} is somebody else's" in done.stderr
        assert ports_answer(fleet), "what can run does"
    finally:
        link.unlink()
    headend("up", "-f", fleet.file, "--detach")
    assert fleet.status()["ready"], "up tries again what was given up"


def test_a_broken_policy_is_refused_before_anything_changes(small):
    fleet = small(apps={"review": {"policy": "policy.yaml"}})
    policy = fleet.folder / "policy.yaml"
    policy.write_text("nonsense: [")
    done = headend("up", "-f", fleet.file, "--detach", code=2)
    assert str(policy) in done.stderr
    assert processes_of(fleet.name) == []


def test_a_change_is_planned_and_touches_only_what_it_must(small):
    fleet = small(("one", "two"))
    headend("up", "-f", fleet.file, "--detach")
    before = fleet.status()
    fleet.declaration["models"]["open-nsfw"] = {}
    fleet.write()
    plan = json.loads(headend("plan", "-f", fleet.file, "--json").stdout)
    for site in plan["sites"]:
        # The agent's configuration is read when it starts; Envoy goes on without it meanwhile.
        assert site["restart"] == ["agent"]
        assert site["start"] == site["stop"] == []
        assert site["keep"] == ["triton", "envoy"]
        assert len(site["write"]) == 3
    headend("up", "-f", fleet.file, "--detach")
    after = fleet.status()
    for site in ("one", "two"):
        for part in ("triton", "envoy"):
            assert after["sites"][site]["parts"][part]["pid"] == before["sites"][site]["parts"][part]["pid"]
        client = triton_http.InferenceServerClient(fleet.door(site))
        until(lambda client=client: client.is_model_ready("open-nsfw"), "the new model")
    assert json.loads(headend("plan", "-f", fleet.file, "--json").stdout)["changes"] is False

    del fleet.declaration["models"]["silero-vad"]
    fleet.write()
    headend("up", "-f", fleet.file, "--detach")
    ports = fleet.part("one", "triton")["ports"]
    inside = triton_http.InferenceServerClient(f"127.0.0.1:{ports['http']}")
    assert inside.is_model_ready("open-nsfw")
    assert not inside.is_model_ready("silero-vad")


def test_one_site_goes_down_and_the_other_stays(small):
    fleet = small(("one", "two"))
    headend("up", "-f", fleet.file, "--detach")
    headend("down", "--site", "one", "-f", fleet.file)
    assert not ports_answer(fleet, "one")
    assert ports_answer(fleet, "two")
    status = fleet.status()
    assert status["sites"]["one"]["state"] == "stopped"
    assert status["sites"]["two"]["state"] == "ready"
    assert headend("status", "--site", "two", "-f", fleet.file).returncode == 0
    two = RunningFleet(fleet.name, dict(fleet.declaration), fleet.folder)
    fleet.declaration = {**fleet.declaration, "sites": {"one": fleet.declaration["sites"]["one"]}}
    fleet.write()
    assert json.loads(headend("plan", "-f", fleet.file, "--json").stdout)["retire"] == ["two"]
    headend("up", "-f", fleet.file, "--detach")
    assert ports_answer(fleet, "one")
    assert not ports_answer(two, "two")


def test_two_ups_at_once_do_not_meet(small):
    fleet = small()
    environment = {**os.environ, "HEADEND_HOME": str(TEST_HOME)}
    both = [
        subprocess.Popen(
            [HEADEND, "up", "-f", fleet.file, "--detach"], env=environment, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    ends = [(each.wait(120), each.communicate()[1]) for each in both]
    assert 0 in [code for code, _ in ends]
    assert fleet.status()["ready"]
    assert all(code == 0 or b"is being changed" in said for code, said in ends)


def test_a_hung_triton_is_restarted(small):
    fleet = small()
    headend("up", "-f", fleet.file, "--detach")
    before = fleet.part("one", "triton")
    os.kill(before["pid"], signal.SIGSTOP)
    until(lambda: fleet.part("one", "triton")["state"] == "unready", "seen as unready", 60)
    until(lambda: fleet.part("one", "triton")["restarts"] == 1, "restarted", 150)
    fleet.wait_ready()
    assert fleet.part("one", "envoy")["restarts"] == 0


def test_a_port_taken_while_the_site_was_down_is_not_fought_over(small):
    fleet = small()
    headend("up", "-f", fleet.file, "--detach")
    kept = fleet.part("one", "triton")["ports"]["http"]
    headend("down", "-f", fleet.file)
    with socket.create_server(("127.0.0.1", kept)):
        headend("up", "-f", fleet.file, "--detach")
        assert fleet.part("one", "triton")["ports"]["http"] != kept


def test_a_corrupted_bundle_is_refused(small, small_bundles):
    fleet = small()
    digest = json.loads((small_bundles / "store/current/silero-vad.json").read_text())["digest"]
    graph = next((small_bundles / "store/bundles" / digest).rglob("*.onnx"))
    content = graph.read_bytes()
    # Moved aside, not overwritten: the repository of a running site may link to the same file.
    sound = graph.rename(small_bundles / "store" / "sound.onnx")
    try:
        graph.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert graph.name in headend("up", "-f", fleet.file, "--detach", code=1).stderr
        assert processes_of(fleet.name) == []
    finally:
        sound.replace(graph)


def test_the_saved_declaration_serves_commands_without_a_file(small):
    fleet = small()
    headend("up", "-f", fleet.file, "--detach")
    saved = json.loads((TEST_HOME / "fleets" / fleet.name / "fleet.json").read_text())
    assert (
        saved["sites"]["one"]["front_door"]
        == yaml.safe_load(fleet.file.read_text())["sites"]["one"]["front_door"]
    )
