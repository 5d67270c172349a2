"""What the scenario of long streams counts and reports; the real thing is in `test_testbed_sites`."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from loadtests.testbed import cli
from loadtests.testbed.streams import report
from loadtests.testbed.streams.clients import Ended
from loadtests.testbed.streams.run import row_of

ENDED = [
    Ended("sequence", "hub", began=0, ended=9, messages=40, slowest_s=0.1, broken=""),
    Ended("sequence", "hub", began=8, ended=25, messages=80, slowest_s=0.9, broken=""),
    Ended("sequence", "west", began=12, ended=14, messages=3, slowest_s=0.2, broken="it was cut"),
    Ended("sequence", "west", began=31, ended=40, messages=45, slowest_s=0.1, broken=""),
]


def test_streams_are_counted_that_were_open_meanwhile():
    row = row_of("drain", "sequence", ENDED, 10, 30, 0.5)
    assert (row.streams, row.across, row.messages, row.broken) == (4, 2, 168, 1)
    assert row.examples == {"it was cut": 1}
    assert (row.seconds, row.longest_s, row.slowest_ms) == (20, 17, 900)


def test_without_any_there_is_a_row_all_the_same():
    row = row_of("drain", "stream", [], 10, 30, 0.5)
    assert (row.streams, row.longest_s, row.slowest_ms) == (0, 0, 0)


def test_the_report_says_why_streams_broke(tmp_path):
    results = report.Results.of([row_of("drain", "sequence", ENDED, 10, 30, 0.5)])
    report.write(results, tmp_path)
    assert json.loads((tmp_path / report.RESULTS).read_text())["rows"][0]["broken"] == 1
    page = (tmp_path / report.PAGE).read_text()
    assert "1 × it was cut" in page
    assert results.hardware in page


def test_it_is_listed_and_has_no_cells():
    ran = CliRunner()
    assert "streams" in ran.invoke(cli.app, ["list"]).output
    refused = ran.invoke(cli.app, ["run", "streams", "--cell", "drain"])
    assert "no cells" in str(refused.exception)
