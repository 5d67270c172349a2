"""The engine's parts that need no processes."""

import io
import time

import pytest
from rich.console import Console
from words_campaign import declared

from loadtests.bench.machine import Conditions
from loadtests.campaign import find, shipped
from loadtests.engine import Targets, checks, happenings, health, messages, outcome, triton_samples, view
from loadtests.engine.messages import Done, Job, Progress, Vitals
from loadtests.histogram import Histogram
from loadtests.results import Happened
from models.errors import UsageError
from serving.fleet import demo_fleet

QUIET = Conditions(cpu="one", cores=2, seconds=10, foreign=0, steal=0, pressure=0.9)


def histogram(*seconds):
    found = Histogram()
    for each in seconds:
        found.record(each)
    return found.encode()


def vitals(**changes):
    calm = {"cpu_share": 0.3, "lag": histogram(0.001), "slip": histogram(0.001), "late": 0}
    return Vitals(**{**calm, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"cpu_share": 0.95}, "busy for 95%"),
        ({"lag": histogram(0.5)}, "woke up to 500 ms late"),
        ({"slip": histogram(0.1)}, "sent more than 100 ms after"),
        ({"late": 3}, "3 requests were never sent"),
    ],
)
def test_any_worker_can_spoil_a_run(changes, words):
    campaign = declared(objectives={"classes": {"live": {"p50_ms": 300, "p99_ms": 900}}})
    found = health.examine(campaign, 2, [vitals(), vitals(**changes)], QUIET, [])
    assert [words in problem for problem in found.problems] == ([True] if words else [])
    assert found.pressure == 0.9


def test_a_dead_worker_spoils_a_run_and_none_need_have_reported():
    found = health.examine(declared(), 1, [], QUIET, ["worker 0 died"])
    assert found.problems == ["worker 0 died"]
    assert found.slip_p99_ms == 0


def test_delays_are_judged_by_the_strictest_objective():
    strict = {"classes": {"live": {"p50_ms": 1000}, "batch": {"p99_ms": 5000}}}
    assert health.delay_limit_ms(declared(objectives=strict)) == 100
    assert health.delay_limit_ms(declared(objectives={"classes": {"live": {"p99_ms": 50}}})) == 20
    assert health.delay_limit_ms(declared(objectives={})) == 20


def test_messages_survive_the_way():
    done = Done(1, "time", 3.0, {"right": [[[0, "live"], b"\x00\xff"]]}, {"late": 1})
    found = messages.decode(messages.encode(done))
    assert Done(**found) == done
    job = Job("alone", declared().model_dump(mode="json", by_alias=True), {"hub": "127.0.0.1:1"})
    assert Job(**messages.decode(messages.encode(job))).campaign == declared()


METRICS = """\
# HELP nv_inference_request_success Number of successful inference requests, all batch sizes
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="ppocr-cls",version="1"} 10
nv_inference_request_success{model="ppocr-cls",version="2"} 5
nv_inference_count{model="ppocr-cls",version="2"} 30
nv_inference_queue_duration_us{model="ppocr-cls",version="2"} 4.5e+03
nv_inference_request_failure{model="ppocr-cls",reason="OTHER",version="1"} 1
nv_cpu_utilization 0.5
"""


def test_tritons_metrics_are_read_by_model():
    assert triton_samples.parse(METRICS) == {
        "ppocr-cls": {
            "request_success": 15,
            "count": 30,
            "queue_duration_us": 4500,
            "request_failure": 1,
        }
    }
    assert triton_samples.parse("") == {}


def test_targets_are_a_fleet_or_one_door():
    fleet = demo_fleet()
    assert dict(Targets.of_fleet(fleet).doors) == {"hub": "127.0.0.1:8080", "edge": "127.0.0.1:8090"}
    assert dict(Targets.of_fleet(fleet, ["edge"]).doors) == {"edge": "127.0.0.1:8090"}
    with pytest.raises(UsageError, match="no site `moon`"):
        Targets.of_fleet(fleet, ["moon"])
    for url in ("http://127.0.0.1:8080", "http://127.0.0.1:8080/", "127.0.0.1:8080"):
        assert dict(Targets.of_url(url).doors) == {"127.0.0.1:8080": "127.0.0.1:8080"}
    assert dict(Targets.of_url("http://[::1]:8080").doors) == {"[::1]:8080": "[::1]:8080"}
    assert list(Targets.of_url("https://studio.example").doors.values()) == ["https://studio.example:443"]
    assert Targets.of_url("http://127.0.0.1:8080").metrics_ports() == {}


@pytest.mark.parametrize("url", ["ftp://127.0.0.1:1", "http://127.0.0.1:1/v1", "http://127.0.0.1:x", "//"])
def test_a_target_is_a_front_doors_address(url):
    with pytest.raises(UsageError):
        Targets.of_url(url)


def test_events_need_sites_that_run_here(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADEND_HOME", str(tmp_path))
    cut = declared(events=[{"at_s": 1, "do": "cut", "site": "moon"}])
    with pytest.raises(UsageError, match="lacks"):
        happenings.check(cut, demo_fleet())
    cut = declared(events=[{"at_s": 1, "do": "cut", "site": "hub"}])
    with pytest.raises(UsageError, match="needs site hub on this machine"):
        happenings.check(cut, demo_fleet())


def test_an_event_that_fails_is_told_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADEND_HOME", str(tmp_path))
    events = [
        {"at_s": 0.1, "do": "kill", "site": "hub", "part": "triton"},
        {"at_s": 0, "do": "cut", "site": "hub"},
        {"at_s": 2, "do": "kill", "site": "hub", "part": "envoy"},
        {"at_s": 0.2, "do": "cut", "site": "edge"},
    ]
    told = []
    begin = time.monotonic()
    under_way = happenings.Happenings(declared(events=events), demo_fleet(), begin, told.append)
    under_way.start()
    while len(told) < 3:
        time.sleep(0.01)
    assert not under_way.over
    under_way.hurry()
    under_way.join()
    assert sorted((each.do, each.error) for each in told) == [
        ("cut edge", "edge is not running"),
        ("cut hub", "hub is not running"),
        ("kill hub triton", "triton of hub is not running"),
    ]
    assert time.monotonic() - begin < 2


def seen():
    found = view.Seen(declared(objectives={"classes": {"live": {"p99_ms": 50}}}), begin=time.monotonic() - 1)
    for _ in range(2):
        found.hear(
            vars(
                Progress(
                    sent=10,
                    outcomes={"ok": 8, "timeout": 2},
                    sites={"hub": 8},
                    response_us={"live": [1_000] * 7 + [80_000]},
                    in_flight=3,
                    lag_ms=1,
                    slip_ms=70,
                )
            )
        )
    found.events.append(Happened(at_s=1, do="cut edge", took_s=0.5))
    return found


def test_the_view_tells_what_was_seen():
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    console.print(view.picture(seen()))
    said = console.file.getvalue()
    for words in ("declared", "answered by hub 100%", "timeout 4", "80 ms", "50 ms", "cut edge", "70 ms"):
        assert words in said
    line = view.line(seen())
    for words in ("sent 20", "right 16", "failed 4", "live p50 1 p99 80 ms", "hub:16", "cut edge at 1 s"):
        assert words in line
    console.print(view.picture(view.Seen(declared())))
    assert "starting the load generator" in console.file.getvalue()


def test_the_view_is_a_screen_on_a_terminal_and_lines_elsewhere():
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100)
    screen = view.opened(terminal, True)
    screen.show(seen())
    screen.close()
    assert "answered by hub" in terminal.file.getvalue()
    log = Console(file=io.StringIO(), width=300)
    lines = view.opened(log, True)
    lines.show(seen())
    lines.show(seen())
    lines.close()
    assert log.file.getvalue().count("sent 20") == 1
    nothing = Console(file=io.StringIO())
    silent = view.opened(nothing, False)
    silent.show(seen())
    silent.close()
    assert nothing.file.getvalue() == ""


def test_a_campaign_is_told_in_words():
    console = Console(file=io.StringIO(), width=200)
    outcome.show_campaign(
        console,
        declared(
            events=[{"at_s": 1, "do": "cut", "site": "hub"}],
            arrivals=[{"kind": "step", "rates": [1, 8], "site": "hub"}],
        ),
    )
    said = console.file.getvalue()
    for words in ("clean-texts to review by http, live", "step at hub", "at 1 s: cut hub", "50.00% of"):
        assert words in said


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_campaigns_fit_the_demo_fleet_and_can_be_read(name):
    campaign = find(name)
    checks.declaration(campaign)
    known = {*demo_fleet().apps, *demo_fleet().models}
    assert {work.pool for work in campaign.workload} <= known
    console = Console(file=io.StringIO(), width=200)
    outcome.show_campaign(console, campaign)
    assert "requests a second" in console.file.getvalue()
    assert "Must hold:" in console.file.getvalue()
