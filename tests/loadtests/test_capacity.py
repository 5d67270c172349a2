"""The capacity search: what is offered, what a step says, what is recorded and shown, and whole searches."""

import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from made_runs import WELL, lognormal, made
from rich.console import Console

from loadtests.campaign import Campaign
from loadtests.capacity import show
from loadtests.capacity.loads import ERROR_RATE, loads
from loadtests.capacity.record import record_of
from loadtests.capacity.steps import LoadStep
from loadtests.knee import Stop, search
from models.errors import UsageError
from serving.capacity import CapacityRecord

SERVER = Path(__file__).with_name("queueing_server.py")
PER_SECOND = 20
"""What it can do: two at a time, each 0.1 s."""
COMMAND = (
    "import typer; from loadtests.capacity import command; from models.console import run; "
    "app = typer.Typer(); app.command()(command); run(app)"
)
WORDS = {"name": "words", "app": "review", "client": "http", "input": "clean-texts", "class": "live"}
LINES = {"name": "lines", "model": "ppocr-cls", "client": "triton-grpc", "input": "text-line", "batch": 4}


def declared(**changes):
    return Campaign.model_validate(declaration(**changes))


def declaration(**changes):
    return {
        "campaign": "words",
        "title": "Short texts.",
        "seconds": 10,
        "workload": [WORDS],
        "arrivals": [{"kind": "constant", "rate": PER_SECOND / 2}],
        # A busy test machine must not decide whether the generator was in time: no strict latencies.
        "objectives": {"classes": {"live": {"p50_ms": 20_000}}, "error_rate": 0.2},
        **changes,
    }


def mixed(**changes):
    given = {
        "workload": [{**WORDS, "weight": 3}, LINES],
        "arrivals": [
            {"kind": "ramp", "start": 0, "end": 40},
            {"kind": "poisson", "rate": 6, "work": ["lines"], "from_s": 5},
        ],
        "events": [{"at_s": 5, "do": "cut", "site": "hub"}],
        "objectives": {
            "classes": {"live": {"p99_ms": 100}, "interactive": {"p50_ms": 50}},
            "character_error_rate": 0.1,
        },
    }
    return declared(**(given | changes))


def test_each_work_is_offered_alone_and_then_the_mix_in_the_campaigns_proportions():
    words, lines, mix = loads(mixed(), None)
    assert [each.name for each in (words, lines, mix)] == ["words", "lines", "words"]
    assert words.rate == pytest.approx(15)
    assert lines.rate == pytest.approx(5 + 3)
    assert mix.rate == pytest.approx(23)
    assert mix.shares == pytest.approx({"words": 15 / 23, "lines": 8 / 23})
    assert words.file_name != mix.file_name


def test_a_step_is_a_short_run_at_one_rate_that_is_judged_by_what_applies_to_it():
    words, lines, mix = loads(mixed(), None)
    step = lines.step(12.5, 20, seed=7, spend=None)
    assert [(arrival.kind, arrival.rate) for arrival in step.arrivals] == [("poisson", 12.5)]
    assert (step.seconds, step.warm_up_s, step.seed, step.events) == (20, 4, 7, [])
    assert [work.name for work in step.workload] == ["lines"]
    assert list(step.objectives.classes) == ["interactive"]
    assert list(words.objectives.classes) == ["live"]
    assert list(mix.objectives.classes) == ["live", "interactive"]
    # There are no subtitles to count characters in; and a fleet that refuses all must not hold any load.
    assert mix.objectives.character_error_rate is None
    assert mix.objectives.error_rate == ERROR_RATE
    assert Campaign.model_validate(step.model_dump(by_alias=True)) == step


def test_what_a_campaign_says_of_failures_stands():
    assert loads(declared(), None)[0].objectives.error_rate == 0.2
    (load,) = loads(declared(objectives={"goodput": 0.9}), None)
    assert (load.objectives.goodput, load.objectives.error_rate) == (0.9, None)


def test_where_only_a_part_is_served_the_part_is_searched_and_no_mix():
    assert [each.name for each in loads(mixed(), {"review", "other"})] == ["words"]
    with pytest.raises(UsageError, match="Nothing that campaign `words` asks for") as refused:
        loads(mixed(), {"other"})
    assert "ppocr-cls, review" in refused.value.hint


def test_without_objectives_there_is_no_knee():
    with pytest.raises(UsageError, match="no objectives"):
        loads(declared(objectives={}), None)


def result_of(load, rate, *, median_s=0.04, **how):
    campaign = load.step(rate, 30, seed=1, spend=None)
    return made(campaign, lognormal(median_s), doors=["hub"], **how)


def test_a_step_says_what_came_of_its_objectives():
    (load,) = loads(declared(objectives={"classes": {"live": {"p99_ms": 100}}}), None)
    held = LoadStep.of(40, result_of(load, 40, median_s=0.02))
    assert (held.outcome, held.reason) == ("held", "")
    assert 0.2 < held.strain < 1
    assert held.concurrency == pytest.approx(40 * 0.02, rel=0.2)
    assert held.p50_ms == pytest.approx(20, rel=0.1)
    missed = LoadStep.of(40, result_of(load, 40, median_s=0.2))
    assert missed.outcome == "missed"
    assert "live p99" in missed.reason
    assert "limit 100 ms" in missed.reason
    assert missed.strain > 2


def test_a_step_in_which_the_generator_was_too_slow_or_a_limit_ended_it_says_nothing():
    (load,) = loads(declared(), None)
    slow = WELL.model_copy(update={"problems": ["a worker was busy"]})
    assert LoadStep.of(40, result_of(load, 40, generator=slow)).reason == "a worker was busy"
    limited = LoadStep.of(40, result_of(load, 40, until=20).model_copy(update={"ended_by": "requests"}))
    assert (limited.outcome, limited.reason) == ("unknown", "the limit `requests` ended the step")


def test_nothing_answered_rightly_is_no_capacity():
    (load,) = loads(declared(objectives={"classes": {"live": {"p99_ms": 100}}}), None)
    campaign = load.step(40, 30, seed=1, spend=None)
    step = LoadStep.of(40, made(campaign, refused, doors=["hub"]))
    assert (step.outcome, step.strain, step.concurrency) == ("missed", math.inf, 0)
    assert "live p99 unknown" in step.reason


def refused(start, random):
    from made_runs import record

    return record(start, 0.001, outcome="refused", detail="full")


def found_knee(load, truth=30.0, **how):
    """A search over made-up results: fast below the knee, slow above it."""

    def probe(rate):
        return LoadStep.of(rate, result_of(load, rate, median_s=0.02 if rate <= truth else 0.3))

    return search(probe, load.rate, lowest=1, **how)


@pytest.fixture
def strict():
    return declared(
        workload=[{**WORDS, "weight": 3}, LINES],
        objectives={"classes": {"live": {"p99_ms": 100}, "interactive": {"p99_ms": 100}}},
    )


def test_a_record_says_what_was_found_and_what_it_is_true_of(strict):
    _, lines, mix = loads(strict, None)
    record = record_of("hub", lines, found_knee(lines), 30, None, is_here=True)
    found = record.pools["ppocr-cls"]["lines"]
    assert found.at_least <= 30 <= found.below
    assert found.at_least <= found.per_second <= found.below
    assert (found.client, found.input, found.batch) == ("triton-grpc", "text-line", 4)
    assert found.p50_ms == pytest.approx(20, rel=0.1)
    assert found.concurrency == pytest.approx(30 * 0.02, rel=0.25)
    assert found.measured.ended == "width"
    assert [(each.name, each.limit) for each in found.measured.objectives] == [
        ("interactive p99", 100),
        ("error rate", ERROR_RATE),
    ]
    assert found.measured.hardware == "2 cores (Intel Xeon)"
    elsewhere = record_of("hub", mix, found_knee(mix), 30, None, is_here=False)
    assert elsewhere.mixes["words"].shares == {"words": 0.75, "lines": 0.25}
    assert elsewhere.mixes["words"].measured.hardware is None
    assert record.merged(elsewhere).mixes == elsewhere.mixes


def test_one_side_of_the_knee_is_recorded_as_such_and_nothing_not_at_all(strict):
    words, *_ = loads(strict, None)
    endless = record_of("hub", words, found_knee(words, math.inf, steps=3), 30, None, is_here=True)
    capacity = endless.pools["review"]["words"]
    assert (capacity.per_second, capacity.below, capacity.measured.ended) == (None, None, "steps")
    assert capacity.at_least == pytest.approx(words.rate * 4)
    never = record_of("hub", words, found_knee(words, 0), 30, None, is_here=True)
    assert never.pools["review"]["words"].at_least is None
    assert never.pools["review"]["words"].p99_ms is None

    def useless(rate):
        slow = WELL.model_copy(update={"problems": ["a worker was busy"]})
        return LoadStep.of(rate, result_of(words, rate, generator=slow))

    assert record_of("hub", words, search(useless, 10, lowest=5), 30, None, is_here=True) is None


def test_what_was_found_is_told_in_a_table_and_a_picture(strict, tmp_path):
    words, _, mix = loads(strict, None)

    def stopped(rate):
        raise Stop

    knees = [
        ("hub", words, found_knee(words)),
        ("hub", mix, found_knee(mix, math.inf, steps=3)),
        ("edge", words, found_knee(words, 0)),
        ("edge", mix, search(stopped, 10, lowest=1)),
    ]
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(show.table(knees))
    for note in show.notes(knees):
        console.print(note)
    text = console.export_text()
    for words_ in ("words (mix)", "at least 40", "below 1", "not known", "no steps were left", "interrupted"):
        assert words_ in text
    for number, (site, load, knee) in enumerate(knees[:3]):
        path = show.chart(tmp_path / "pictures" / f"{number}.png", site, load, knee)
        assert path.read_bytes().startswith(b"\x89PNG")
    assert show.step_line(*knees[1]).endswith("40/s [green]held[/]; knee at least 40")


@pytest.fixture
def server():
    process = subprocess.Popen([sys.executable, SERVER], stdout=subprocess.PIPE, text=True)
    yield f"127.0.0.1:{int(process.stdout.readline())}"
    process.kill()
    process.wait()
    process.stdout.close()


def ask(tmp_path, campaign, *options):
    file = tmp_path / "campaign.yaml"
    file.write_text(yaml.safe_dump(campaign))
    environment = {**os.environ, "HEADEND_HOME": str(tmp_path / "home")}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(file), *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def answer(process):
    stdout, stderr = process.communicate(timeout=300)
    return process.returncode, stdout, stderr


def test_the_knee_of_a_real_server_is_found_and_recorded(server, tmp_path):
    out = tmp_path / "capacity"
    options = ["--target", server, "--site", "hub", "--step-s", "2", "--out", str(out)]
    code, text, progress = answer(ask(tmp_path, declaration(), *options, "--steps", "5", "--json"))
    assert code == 0, progress
    told = json.loads(text)
    (found,) = told["found"]
    capacity = CapacityRecord.load(out / "hub.yaml").pools["review"]["words"]
    assert told["records"] == {"hub": str(out / "hub.yaml")}
    assert len(found["steps"]) <= 5
    # A fifth may be refused, so it holds a quarter more than it can answer; short steps say it roughly.
    assert found["at_least"] < PER_SECOND * 1.25 * 1.5
    assert found["below"] > PER_SECOND * 1.25 / 1.5
    assert capacity.at_least == pytest.approx(found["at_least"], rel=1e-3)
    assert capacity.measured.hardware
    assert capacity.concurrency < 5
    assert "knee" in progress
    assert (out / "hub-words.png").exists()
    assert len(list(out.glob("steps/*/*/result.json"))) == len(found["steps"])


def test_an_interrupt_keeps_what_was_found(server, tmp_path):
    words = [WORDS, {**WORDS, "name": "more-words"}]
    out = tmp_path / "capacity"
    process = ask(
        tmp_path, declaration(workload=words),
        "--target", server, "--site", "hub", "--step-s", "3", "--steps", "1", "--out", str(out),
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(out.glob("steps/hub-more-words-*/01/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    code, text, progress = answer(process)
    assert code == 2, progress
    assert list(CapacityRecord.load(out / "hub.yaml").pools["review"]) == ["words"]
    assert str(out / "hub.yaml") in text
    assert "Traceback" not in progress


def test_what_may_be_spent_is_spent_once_and_what_was_found_is_kept(server, tmp_path):
    out = tmp_path / "capacity"
    # Ten requests a second for two seconds; the second step, of twice as many, cannot be paid for.
    limits = {"limits": {"spend": 0.4, "price_per_1000": {"review": 10}}}
    options = ["--target", server, "--site", "hub", "--step-s", "2", "--out", str(out)]
    code, text, progress = answer(ask(tmp_path, declaration(**limits), *options))
    assert code == 2
    assert "`spend` is used up" in progress
    assert "at least 10" in text
    capacity = CapacityRecord.load(out / "hub.yaml").pools["review"]["words"]
    assert capacity.at_least == pytest.approx(10, rel=0.01)
    assert capacity.measured.ended == "stopped"


@pytest.mark.parametrize(
    ("campaign", "options", "words"),
    [
        ({}, ["--target", "http://127.0.0.1:1"], "does not answer"),
        ({}, ["--target", "127.0.0.1:1", "-f", "fleet.yaml"], "exclude each other"),
        ({}, ["-f", "nowhere.yaml"], "nowhere.yaml"),
        ({}, ["--site", "nowhere"], "has no site `nowhere`"),
        ({"objectives": {}}, ["--target", "127.0.0.1:1"], "has no objectives"),
        ({"sekonds": 1}, ["--target", "127.0.0.1:1"], "did you mean `seconds`"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(tmp_path, campaign, options, words):
    code, text, progress = answer(ask(tmp_path, declaration(**campaign), *options))
    assert code == 2
    assert words in progress
    assert "Traceback" not in progress
    assert not text


def test_an_output_folder_that_cannot_be_written_is_refused(server, tmp_path):
    (tmp_path / "file").write_text("")
    out = str(tmp_path / "file" / "capacity")
    code, _, progress = answer(ask(tmp_path, declaration(), "--target", server, "--out", out))
    assert code == 2
    assert "Nothing can be written to" in progress


def test_a_fleets_sites_are_asked_at_the_door_that_they_have_for_each_other(tmp_path):
    from loadtests.capacity.asked import _places

    file = tmp_path / "fleet.yaml"
    file.write_text(
        "fleet: a\nmodels: {ppocr-cls: {}, open-nsfw: {}}\n"
        "sites: {hub: {front_door: '127.0.0.1:10'}, edge: {front_door: '127.0.0.1:20', models: [open-nsfw]}}"
    )
    fleet, places = _places(file, None, None)
    assert [dict(place.targets.doors) for place in places] == [
        {"hub": "127.0.0.1:11"},
        {"edge": "127.0.0.1:21"},
    ]
    assert [place.pools for place in places] == [{"ppocr-cls", "open-nsfw"}, {"open-nsfw"}]
    assert fleet.fleet == "a"
    assert [place.site for place in _places(file, None, "edge")[1]] == ["edge"]
