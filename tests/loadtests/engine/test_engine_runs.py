"""Whole runs against a small real server: open loop, limits, several workers, a starved generator."""

import csv
import gzip
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from words_campaign import declared

from loadtests.arrivals import schedule
from loadtests.engine import Targets, run_campaign
from loadtests.histogram import DIGITS, LONGEST_US, Histogram
from loadtests.results import Result, total
from loadtests.speakers import open_speaker
from loadtests.tally import SAMPLE_COLUMNS

STILL_S = 2.0
SLOW_S = 2.0
SERVER = Path(__file__).with_name("grpc_server.py")


def run(campaign, address, out, **options):
    return run_campaign(campaign, Targets.of_url(address), out, view=False, report=False, **options)


def test_a_server_that_stands_still_shows_where_a_closed_loop_hides_it(server, tmp_path):
    campaign = declared(seconds=5)
    stall = {"still_after": 1.5, "still_for": STILL_S}
    result = run(campaign, server(**stall), tmp_path / "run")

    closed = Histogram()
    speaker = open_speaker(campaign.workload[0], server(**stall))
    end = time.monotonic() + 5
    while time.monotonic() < end:
        begin = time.monotonic()
        assert speaker.ask().outcome == "ok"
        closed.record(time.monotonic() - begin)
    speaker.close()

    assert closed.max_ms > STILL_S * 900
    assert closed.percentile_ms(99) < 500
    assert result.histogram("response").percentile_ms(99) > STILL_S * 500
    # 40% of the time every request waited, a second on average.
    assert result.histogram("response").percentile_ms(70) > 100
    assert max(each.max_ms for each in result.slices) > STILL_S * 900
    assert total(result.series, "ok") == result.sent == 200


def test_a_run_leaves_its_files(server, tmp_path):
    campaign = declared(seconds=2, warm_up_s=0.5)
    address = server()
    result = run(campaign, address, tmp_path / "run")
    folder = tmp_path / "run"
    assert sorted(path.name for path in folder.iterdir()) == [
        "campaign.yaml",
        "histograms.hlog",
        "requests.csv.gz",
        "result.json",
    ]
    assert Result.load(folder) == result
    assert type(campaign).load(folder / "campaign.yaml") == campaign
    assert result.complete
    assert (result.ended_by, result.run, result.targets) == ("time", "run", {address: address})
    assert result.verdict == "held"
    assert [one.outcomes for one in result.series] == [{"ok": 60}]
    assert [(one.door, one.site, one.attempts) for one in result.series] == [(address, "here", 60)]
    lines = gzip.decompress((folder / "requests.csv.gz").read_bytes()).decode().splitlines()
    assert lines[0].split(",") == SAMPLE_COLUMNS
    assert len(lines) == 1 + 80

    reader = HistogramLogReader(str(folder / "histograms.hlog"), HdrHistogram(1, LONGEST_US, DIGITS))
    counts = []
    while (found := reader.get_next_interval_histogram()) is not None:
        counts.append(found.get_total_count())
    assert counts == [60, 60]


def test_two_workers_offer_what_one_does(server, tmp_path):
    campaign = declared(arrivals=[{"kind": "poisson", "rate": 60}], seconds=2)
    address = server()
    one = run(campaign, address, tmp_path / "one")
    two = run(campaign, address, tmp_path / "two", workers=2)
    offered = len(list(schedule(campaign, [address])))
    assert one.sent == two.sent == offered
    assert [each.sent for each in one.slices] == [each.sent for each in two.slices]
    assert (one.generator.workers, two.generator.workers) == (1, 2)
    assert total(two.series, "ok") == offered
    assert two.complete


@pytest.mark.parametrize(
    ("limits", "sent", "why"),
    [
        ({"requests": 25}, 25, "requests"),
        ({"spend": 0.3, "price_per_1000": {"review": 10}}, 30, "spend"),
    ],
)
def test_a_limit_ends_a_run(server, tmp_path, limits, sent, why):
    result = run(declared(limits=limits), server(), tmp_path / "run")
    assert (result.sent, result.ended_by, result.complete) == (sent, why, False)
    assert result.verdict == "none"
    assert result.seconds < 2


def test_what_waits_is_bounded_and_clients_give_up(server, tmp_path):
    campaign = declared(
        seconds=2,
        limits={"in_flight": 10},
        arrivals=[{"kind": "constant", "rate": 20}],
        workload=[{**declared().workload[0].model_dump(by_alias=True), "timeout_s": 30}],
    )
    result = run(campaign, server(delay=4), tmp_path / "run")
    assert {kind: total(result.series, kind) for kind in ("ok", "not-sent")} == {"ok": 10, "not-sent": 30}
    assert "10 requests were waiting" in result.errors[0].example
    assert result.verdict == "missed"
    hasty = campaign.model_copy(
        update={"workload": [campaign.workload[0].model_copy(update={"timeout_s": 0.5})]}
    )
    result = run(hasty, server(delay=4), tmp_path / "hasty")
    assert total(result.series, "timeout") > 20
    assert result.histogram("response").count == 0


def test_a_generator_that_cannot_keep_up_is_refused(server, tmp_path):
    campaign = declared(arrivals=[{"kind": "constant", "rate": 20_000}], seconds=1)
    result = run(campaign, server(), tmp_path / "run")
    assert result.verdict == "invalid"
    assert any("were sent more than" in each or "never sent" in each for each in result.generator.problems)
    assert result.sent == 20_000
    assert result.generator.slip_max_ms > 500


def test_answers_by_grpc_do_not_wait_for_one_another(tmp_path):
    """Every second takes two seconds, so that twenty wait at any time."""
    asked = {"name": "one", "model": "open-nsfw", "client": "triton-grpc", "input": "random"}
    campaign = declared(
        seconds=5, workload=[{**asked, "class": "live"}], arrivals=[{"kind": "constant", "rate": 20}]
    )
    with subprocess.Popen([sys.executable, SERVER, str(SLOW_S)], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            run(campaign, f"127.0.0.1:{int(server.stdout.readline())}", tmp_path / "run")
        finally:
            server.kill()
    with gzip.open(tmp_path / "run" / "requests.csv.gz", "rt") as rows:
        took = sorted(float(row["ended"]) - float(row["intended"]) for row in csv.DictReader(rows))
    assert len(took) == 100
    assert took[44] < SLOW_S / 4, "nearly half are quick"
    assert took[55] > SLOW_S
