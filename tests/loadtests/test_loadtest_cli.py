"""`headend loadtest` as a person and a script meet it: real processes, and what goes wrong."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
import yaml

from loadtests.results import Result

HEADEND = Path(sys.executable).with_name("headend")
SERVER = Path(__file__).parent / "engine" / "answering_server.py"
CAMPAIGN = {
    "campaign": "words",
    "title": "Short texts.",
    "seconds": 2,
    "workload": [
        {"name": "words", "app": "review", "client": "http", "input": "clean-texts", "class": "live"}
    ],
    "arrivals": [{"kind": "constant", "rate": 40}],
    # Not strict: a busy test machine must not decide whether the generator was in time.
    "objectives": {"classes": {"live": {"p50_ms": 20_000}}},
}


@pytest.fixture(scope="module")
def door():
    with subprocess.Popen([sys.executable, SERVER], stdout=subprocess.PIPE, text=True) as process:
        yield f"127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


@pytest.fixture
def environment(tmp_path):
    return {**os.environ, "HEADEND_HOME": str(tmp_path / "home"), "COLUMNS": "150", "NO_COLOR": "1"}


@pytest.fixture
def headend(environment):
    def run(*arguments, code=0):
        done = subprocess.run(
            [HEADEND, "loadtest", *map(str, arguments)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def campaign(tmp_path):
    def write(**changes):
        path = tmp_path / "words.yaml"
        path.write_text(yaml.safe_dump({**CAMPAIGN, **changes}))
        return path

    return write


def test_the_exit_code_says_the_verdict(headend, campaign, door, tmp_path):
    done = headend("run", campaign(), "--target", f"http://{door}", "--json")
    found = json.loads(done.stdout)
    assert found["verdict"] == "held"
    assert (found["sent"], found["right"], found["failed"]) == (80, 80, 0)
    folder = Path(found["folder"])
    assert folder.parent == tmp_path / "home" / "loadtests"
    assert (folder / "report.html").stat().st_size > 10_000
    strict = campaign(objectives={"classes": {"live": {"p50_ms": 20_000}}, "character_error_rate": 0})
    done = headend("run", strict, "--target", f"http://{door}", "--out", tmp_path / "strict", code=1)
    assert "Missed: character error rate" in done.stdout
    assert str(tmp_path / "strict" / "report.html") in done.stdout
    assert "sent" in done.stderr  # progress, for logs


@pytest.fixture
def begin(environment, door):
    """Starts a run; returns it once a line of its standard error has `words`, with that line."""
    begun = []

    def start(campaign, out, *more, words="sent"):
        process = subprocess.Popen(
            [HEADEND, "loadtest", "run", campaign, "--target", door, "--out", out, *more],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(process)
        return process, next(line for line in process.stderr if words in line)

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def children(process):
    """The generator's processes."""
    return psutil.Process(process.pid).children()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_a_partial_report(begin, campaign, tmp_path, number):
    out = tmp_path / "run"
    process, _ = begin(campaign(seconds=600), out)
    generator = children(process)
    time.sleep(1)
    process.send_signal(number)
    said, progress = process.communicate(timeout=120)
    assert process.returncode == 2, progress
    assert "No verdict: the run was interrupted" in said
    assert "Traceback" not in progress
    result = Result.load(out)
    assert (result.complete, result.ended_by, result.verdict) == (False, "interrupt", "none")
    assert 0.5 < result.seconds < 60
    assert result.sent > 20
    assert (out / "report.html").exists()
    assert not any(each.is_running() for each in generator)


def test_a_killed_command_leaves_no_process(begin, campaign, tmp_path):
    process, _ = begin(campaign(seconds=600), tmp_path / "run", "-w", "2")
    generator = children(process)
    assert len(generator) == 3
    process.kill()
    process.communicate()
    _, left = psutil.wait_procs(generator, 20)
    assert not left


def test_a_worker_that_dies_makes_the_run_invalid(begin, campaign, tmp_path):
    out = tmp_path / "run"
    process, _ = begin(campaign(seconds=600), out, "-w", "2")
    children(process)[-1].kill()
    said, progress = process.communicate(timeout=120)
    assert process.returncode == 2, progress
    assert "was killed by signal 9" in said
    result = Result.load(out)
    assert (result.complete, result.ended_by, result.verdict) == (False, "worker", "invalid")
    assert result.sent > 0, "the other worker's count is kept"


def test_locusts_page_shows_the_run_and_can_stop_it(begin, campaign, door, tmp_path):
    process, said = begin(campaign(seconds=600), tmp_path / "run", "--web", words="locust's page")
    page = said.split()[-1]
    assert page.startswith("http://127.0.0.1:")
    requests = 0
    while requests < 20:
        with urllib.request.urlopen(f"{page}stats/requests") as answer:
            stats = json.load(answer)
        requests = stats["stats"][0]["num_requests"]
        assert process.poll() is None
        time.sleep(0.2)
    assert stats["stats"][0]["name"] == f"words at {door}"
    assert stats["state"] == "running"
    with urllib.request.urlopen(page) as answer:
        assert b"locust" in answer.read().lower()
    urllib.request.urlopen(f"{page}stop", data=b"").close()
    said, progress = process.communicate(timeout=120)
    assert process.returncode == 2, progress
    assert "No verdict: the run was interrupted" in said


def test_a_target_that_is_down_is_named(headend, campaign, tmp_path):
    out = tmp_path / "run"
    done = headend("run", campaign(), "--target", "http://127.0.0.1:9", "--out", out, "--json", code=2)
    assert "127.0.0.1:9 does not answer" in done.stderr
    assert "headend up" in json.loads(done.stdout)["hint"]
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sekonds": 3}, "did you mean `seconds`"),
        ({"arrivals": [{"kind": "constant", "rate": -1}]}, "arrivals.0.constant.rate"),
        (
            {"workload": [{**CAMPAIGN["workload"][0], "input": "clean-text"}]},
            "there is no input `clean-text`",
        ),
        ({"arrivals": [{"kind": "trace", "trace": "none"}]}, "there is no trace `none`"),
    ],
)
def test_a_typo_in_a_campaign_is_explained(headend, campaign, changes, words):
    file = campaign(**changes)
    assert words in headend("validate", file, code=2).stderr


def test_a_campaign_with_a_typo_is_not_run(headend, campaign):
    done = headend("run", campaign(sekonds=3), "--target", "127.0.0.1:9", code=2)
    assert "did you mean `seconds`" in done.stderr


def test_where_nothing_can_be_written_nothing_is_sent(headend, campaign, door, tmp_path):
    (tmp_path / "file").write_text("")
    done = headend("run", campaign(), "--target", door, "--out", tmp_path / "file" / "run", code=2)
    assert f"Nothing can be written to {tmp_path / 'file' / 'run'}" in done.stderr
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "result.json").write_text("{}")
    done = headend("run", campaign(), "--target", door, "--out", tmp_path / "old", code=2)
    assert "holds a run already" in done.stderr
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["result.json"]


def test_events_and_sites_need_a_fleet_that_has_them(headend, campaign, door, tmp_path):
    event = {"at_s": 1, "do": "kill", "site": "hub", "part": "triton"}
    done = headend("run", campaign(events=[event]), "--target", door, code=2)
    assert "`kill hub triton`" in done.stderr
    assert "-f instead of --target" in done.stderr
    there = [{"kind": "constant", "rate": 1, "site": "hub"}]
    done = headend("run", campaign(arrivals=there), "--target", door, code=2)
    assert "`hub`, which is not among the targets" in done.stderr
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(f"fleet: small\nmodels: {{}}\nsites: {{one: {{front_door: '{door}'}}}}\n")
    done = headend("run", campaign(), "-f", fleet, code=2)
    assert "asks review, which fleet small does not serve" in done.stderr
    assert "exclude each other" in headend("run", campaign(), "-f", fleet, "--target", door, code=2).stderr


def test_campaigns_inputs_and_traces_are_listed(headend):
    names = [row["campaign"] for row in json.loads(headend("list", "--json").stdout)]
    assert {"smoke", "site-loss", "evening-news", "trace", "overload", "soak"} <= set(names)
    assert "mandarin-news" in headend("list", "--inputs").stdout
    assert "azure" in headend("list", "--traces").stdout
    assert "Shipped: " in headend("show", "smok", code=2).stderr
    assert "Must hold:" in headend("show", "site-loss").stdout
    headend("validate", "smoke")


def test_the_schema_is_for_editors_and_help_names_all(headend):
    assert "workload" in json.loads(headend("schema").stdout)["properties"]
    said = headend("--help").stdout
    for name in ("run", "list", "show", "validate", "schema", "capacity", "compare", "simulate"):
        assert name in said


def test_the_command_imports_neither_locust_nor_gevent():
    code = "import loadtests.cli, loadtests.engine.run, sys; print({'locust', 'gevent'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
