"""Envoy's own policies at real front doors: what they are told, and that they go by it."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml
from test_testbed_sites import HEADEND, left

from loadtests.testbed import figures, network
from loadtests.testbed.reports import report
from serving.router.telemetry import triton
from serving.router.telemetry.counters import Counters

SCENARIO = {
    "scenario": "trial",
    "title": "Three sites, one of them large.",
    "sites": {"hub": {"copies": 4}, "west": {}, "east": {}},
    "models": {"clip": {"mean_ms": 100}},
    "traffic": [{"model": "clip", "p99_ms": 1500}],
    "cells": [
        {"name": "even", "load": 0.6, "seconds": 12, "policies": ["weighted-round-robin"]},
        {
            "name": "idle",
            "load": 0.06,
            "seconds": 12,
            "policies": ["load-aware-locality"],
            "ingress": {"hub": 1},
        },
    ],
}


def test_a_report_is_of_what_was_answered_and_how_long_copies_were_busy():
    counted: Counters[triton.Key] = Counters(2.0)
    assert report(counted, ["clip"], 2) == ""
    counted.add(0.0, {("clip", "answered"): 10, ("clip", "service_ns"): 1e9})
    counted.add(2.0, {("clip", "answered"): 30, ("clip", "service_ns"): 3e9})
    assert report(counted, ["clip"], 2) == "TEXT application_utilization=0.5000, rps_fractional=10.000"


@pytest.mark.e2e
@pytest.mark.skipif(bool(network.obstacle()), reason=f"no testbed here: {network.obstacle()}")
def test_envoy_weighs_sites_by_what_they_report(tmp_path: Path) -> None:
    (tmp_path / "trial.yaml").write_text(yaml.safe_dump(SCENARIO))
    done = subprocess.run(
        [
            *(HEADEND, "loadtest", "testbed", "run", tmp_path / "trial.yaml"),
            *("--json", "--out", tmp_path / "out"),
        ],
        env={**os.environ, "HEADEND_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = {row["cell"]: row for row in json.loads(done.stdout)["figures"]}
    assert [row["failed"] for row in rows.values()] == [0, 0]
    # A round robin would send a third to each.
    assert shares(tmp_path / "out" / "even")["hub"] > 0.5
    assert shares(tmp_path / "out" / "idle")["hub"] > 0.75
    assert left() == []


def shares(folder: Path) -> dict[str, float]:
    """Of the answers of a cell's run, by site."""
    answered = Counter(request.site for request in figures.read(folder) if request.is_right)
    return {site: count / answered.total() for site, count in answered.items()}
