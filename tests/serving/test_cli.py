"""The command, as a person and as a script meet it: real processes, no servers."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import free_ports

HEADEND = Path(sys.executable).with_name("headend")


@pytest.fixture
def headend(tmp_path):
    def run(*arguments, code=0):
        environment = {
            **os.environ,
            "HEADEND_HOME": str(tmp_path / "home"),
            "COLUMNS": "150",
            "NO_COLOR": "1",
        }
        done = subprocess.run(
            [HEADEND, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def ports():
    """Four ports that are free, and one that is not."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        yield [taken.getsockname()[1], *free_ports(4)]


def fleet_file(tmp_path, front_door, peer, models="{}"):
    path = tmp_path / "fleet.yaml"
    path.write_text(
        f"fleet: small\nmodels: {models}\n"
        f'sites: {{here: {{front_door: "127.0.0.1:{front_door}", peer: "127.0.0.1:{peer}"}}}}\n'
    )
    return path


def test_it_knows_its_version_and_commands(headend):
    assert headend("--version").stdout.startswith("headend 0.")
    words = headend("--help").stdout
    for name in ("plan", "up", "status", "logs", "down", "call", "doctor", "models", "schema"):
        assert name in words


def test_schema_describes_a_fleet(headend):
    schema = json.loads(headend("schema").stdout)
    assert schema["required"] == ["fleet", "models", "sites"]
    assert schema["additionalProperties"] is False


def test_plan_tells_what_is_missing_and_what_would_start(headend):
    plan = json.loads(headend("plan", "--json").stdout)
    assert plan["changes"]
    assert "whisper-base" in plan["build"]
    assert [site["site"] for site in plan["sites"]] == ["hub", "edge"]
    assert plan["sites"][0]["start"] == ["triton", "serve", "envoy", "agent"]
    chosen = [port for site in plan["sites"] for port in site["ports"].values()]
    assert len(set(chosen)) == len(chosen)
    assert "headend models build" in headend("plan").stdout


def test_nothing_runs_says_so(headend):
    status = json.loads(headend("status", "--json", code=1).stdout)
    assert status["ready"] is False
    assert status["sites"]["hub"]["state"] == "stopped"
    assert "not ready" in headend("status", code=1).stdout
    assert "Nothing of fleet demo" in headend("down").stdout
    assert json.loads(headend("down", "--json").stdout) == {"stopped": []}
    for words in (("routes",), ("routes", "--json"), ("routes", "explain", "review")):
        assert "No site of fleet demo runs here" in headend(*words, code=1).stderr


def test_up_without_bundles_says_how_to_build_them(headend, tmp_path, ports):
    file = fleet_file(tmp_path, ports[1], ports[2], models="{silero-vad: {}}")
    done = headend("up", "-f", file, "--detach", code=1)
    assert "No bundle yet of silero-vad" in done.stderr
    assert "headend models build silero-vad" in done.stderr


def test_up_names_the_process_that_holds_a_port(headend, tmp_path, ports):
    file = fleet_file(tmp_path, ports[0], ports[2])
    done = headend("up", "-f", file, "--detach", code=1)
    assert f"site here: 127.0.0.1:{ports[0]} is held by pid {os.getpid()}" in done.stderr
    plan = json.loads(headend("plan", "-f", file, "--json").stdout)
    assert str(os.getpid()) in plan["sites"][0]["conflicts"][0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fleet: x\nmodels: {}\nsitse: {}\n", "did you mean `sites`"),
        ("fleet: x\nmodels: {}\nsites: {a: {front_door: nowhere}}\n", "sites.a.front_door"),
        ("fleet: x\nmodels: {}\nsites: {a: {front_door: '127.0.0.1:99999'}}\n", "port"),
        ("fleet: [\n", "is not YAML"),
        ("- 1\n", "expected a mapping"),
    ],
)
def test_a_broken_fleet_file_is_explained(headend, tmp_path, text, words):
    file = tmp_path / "fleet.yaml"
    file.write_text(text)
    assert words in headend("plan", "-f", file, code=2).stderr


def test_what_does_not_exist_is_named(headend, tmp_path):
    assert "hub, edge" in headend("status", "--site", "moon", code=2).stderr
    assert "hub, edge" in headend("logs", "moon", code=2).stderr
    assert "no log of `wings`" in headend("logs", "hub", "wings", code=2).stderr
    assert "No such file" in headend("plan", "-f", tmp_path / "none.yaml", code=2).stderr


def test_a_call_without_a_fleet_says_how_to_start_it(headend, tmp_path, ports):
    file = fleet_file(tmp_path, ports[1], ports[2])
    done = headend("call", "review", "words", "-f", file, "--json", code=1)
    assert f"No front door answers at 127.0.0.1:{ports[1]}" in done.stderr
    assert "headend up" in json.loads(done.stdout)["hint"]
    assert "no file picture.png" in headend("call", "review", "picture.png", "-f", file, code=2).stderr


def test_doctor_looks_at_the_real_parts(headend, tmp_path, ports):
    file = fleet_file(tmp_path, ports[1], ports[2], models="{silero-vad: {}}")
    report = json.loads(headend("doctor", "-f", file, "--json").stdout)
    assert report["fit"] is True
    findings = {finding["what"]: finding for finding in report["findings"]}
    assert findings["Triton"]["verdict"] == findings["Triton's Python"]["verdict"] == "ok"
    assert findings["Envoy"]["verdict"] == "ok"
    assert "headend models build silero-vad" in findings["bundles"]["todo"]


def test_doctor_counts_the_files_that_front_doors_watch(headend, tmp_path):
    sites = {f"s{number}": {"front_door": f"127.0.0.1:{9000 + 2 * number}"} for number in range(100)}
    file = tmp_path / "large.yaml"
    file.write_text(json.dumps({"fleet": "large", "models": {"silero-vad": {}}, "sites": sites}))
    report = json.loads(headend("doctor", "-f", file, "--json", code=1).stdout)
    watched = next(each for each in report["findings"] if each["what"] == "watched files")
    files = int(watched["found"].split()[1])
    assert files >= 100 * 3  # each front door has endpoints for three classes
    allowed = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    assert watched["verdict"] == ("problem" if files > allowed else "note" if files > allowed // 2 else "ok")


def test_doctor_sees_a_held_port(headend, tmp_path, ports):
    report = json.loads(
        headend("doctor", "-f", fleet_file(tmp_path, ports[0], ports[2]), "--json", code=1).stdout
    )
    held = [finding for finding in report["findings"] if finding["verdict"] == "problem"]
    assert [finding["what"] for finding in held] == ["ports of here"]
    assert str(os.getpid()) in held[0]["found"]
