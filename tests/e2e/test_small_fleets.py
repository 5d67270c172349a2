"""Small fleets, each for one fault: interrupts, kills, taken ports, broken files, changes."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import httpx
import pytest
import tritonclient.http as triton_http
import yaml
from built import TEST_HOME
from fleet_process import HEADEND, RunningFleet, headend, processes_of
from waiting import until

pytestmark = pytest.mark.e2e


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
    until(lambda: fleet.part("one", "triton")["restarts"] == 1, "restarted", 150)
    fleet.wait_ready()
    assert fleet.part("one", "triton")["pid"] != before["pid"]
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
