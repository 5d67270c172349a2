"""Real sites in namespaces: what the links do, and that nothing is left, however the testbed ended.

All tests that build one are in this file: a machine has one testbed at a time.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from waiting import until

from loadtests.testbed import figures, network

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(network.obstacle()), reason=f"no testbed here: {network.obstacle()}"),
]

HEADEND = Path(sys.executable).with_name("headend")
SCENARIO: dict[str, Any] = {
    "scenario": "trial",
    "title": "Two sites, one of them small and slow.",
    # However busy the machine is: the hub answers first, way included.
    "sites": {"hub": {"copies": 2, "speed": 8}, "van": {}},
    # All of up to 4.5 s comes back at once when the loss is noticed, and must find room in the line, which is
    # bounded by time too: however slow the machine makes the small site.
    "models": {"clip": {"mean_ms": 40, "max_queue": 64, "queue_timeout_ms": 60_000}},
    # As thin as no machine is slow: what a kilobyte more takes stands out.
    "link": {"rtt_ms": 20, "mbit_s": 2},
    "traffic": [{"model": "clip", "p99_ms": 1500}],
    "cells": [
        {
            "name": "dark",
            "load": 0.15,
            "of": ["van"],
            "seconds": 14,
            "ingress": {"van": 1},
            "faults": [{"do": "black-hole", "site": "hub", "at_s": 4, "for_s": 5}],
        }
    ],
}

BY_LOAD = {
    "scenario": "by-load",
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


def left() -> list[str]:
    """Namespaces, interfaces and processes of a testbed."""
    interfaces = [path.name for path in Path("/sys/class/net").glob("hb*")]
    processes = [
        path.parent.name
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.exists() and b"\0loadtests.testbed." in path.read_bytes()
    ]
    names = [path.name for path in Path("/run/netns").glob(f"{network.PREFIX}*")]
    return interfaces + processes + names


@pytest.fixture
def cells() -> list[dict[str, object]]:
    """Of the scenario that is run."""
    return SCENARIO["cells"]


@pytest.fixture
def bed(tmp_path: Path, cells: list[dict[str, object]]) -> Iterator[subprocess.Popen[bytes]]:
    """A testbed that runs its cells, in a home of its own."""
    file = tmp_path / "trial.yaml"
    file.write_text(yaml.safe_dump({**SCENARIO, "cells": cells}))
    process = subprocess.Popen(
        [HEADEND, "loadtest", "testbed", "run", file, "--json", "--out", tmp_path / "out"],
        env={**os.environ, "HEADEND_HOME": str(tmp_path / "home")},
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "err").open("wb"),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
        headend_down(tmp_path)


def headend_down(folder: Path) -> dict[str, list[str]]:
    done = subprocess.run(
        [HEADEND, "loadtest", "testbed", "down", "--json"],
        env={**os.environ, "HEADEND_HOME": str(folder / "home")},
        capture_output=True,
        check=True,
    )
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def ready(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/readyz", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


def mbit_s(site: str, other: str, folder: Path) -> float:
    """What a site knows that the link to another one carries; 0: nothing yet."""
    testbed = folder / "home" / "testbed"
    done = subprocess.run(
        network.inside(site, [str(HEADEND), "routes", "-f", str(testbed / "fleet.yaml"), "--json"]),
        env={**os.environ, "HEADEND_HOME": str(testbed / "sites" / site)},
        capture_output=True,
    )
    doors = json.loads(done.stdout) if done.returncode == 0 else {}
    return doors.get(site, {}).get("sites", {}).get(other, {}).get("mbit_s") or 0.0


def test_a_black_hole_costs_no_request_that_a_site_could_answer(bed, tmp_path):
    said, _ = bed.communicate(timeout=240)
    assert bed.returncode == 0, (tmp_path / "err").read_text()
    found = json.loads(said)
    (cost,) = found["costs"]
    assert cost["requests"] > 20
    assert cost["failed"] == 0, json.dumps(cost)
    assert cost["there_before"] > 0.5, "otherwise nothing was lost"
    (row,) = found["figures"]
    assert row["requests"] > 0
    assert (tmp_path / "out" / "report.html").exists()
    assert (tmp_path / "out" / "dark" / "report.html").exists()
    assert left() == []


def test_a_killed_testbed_leaves_what_down_removes(bed, tmp_path):
    until(lambda: ready("10.213.0.1:8000") and ready("10.213.0.2:8000"), "both sites are ready")
    until(lambda: 1 < mbit_s("van", "hub", tmp_path) < 3, "the link is measured", 25)
    bed.send_signal(signal.SIGKILL)
    bed.wait()
    until(lambda: not ready("10.213.0.1:8000"), "the sites end with the testbed", 60)
    assert headend_down(tmp_path) == {"removed": ["headend-hub", "headend-van"]}
    assert left() == []
    assert headend_down(tmp_path) == {"removed": []}


@pytest.mark.parametrize("cells", [[{"name": "calm", "load": 0.1, "seconds": 3}, *SCENARIO["cells"]]])
def test_an_interrupted_run_reports_what_was_run_and_says_how_to_go_on(bed, tmp_path):
    until(lambda: "cell 2 of 2" in (tmp_path / "err").read_text(), "the second cell", 240)
    until(lambda: (tmp_path / "out" / "dark").exists(), "its run")
    bed.send_signal(signal.SIGTERM)
    said, _ = bed.communicate(timeout=60)
    assert bed.returncode == 1
    assert [row["cell"] for row in json.loads(said)["figures"]] == ["calm"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.json", "report.html", "calm"}
    hint = " ".join((tmp_path / "err").read_text().split())
    assert f"--out {tmp_path / 'out'} --cell dark" in hint
    assert left() == []


def test_no_stream_breaks_while_a_site_is_changed_and_emptied(tmp_path: Path) -> None:
    done = subprocess.run(
        [HEADEND, "loadtest", "testbed", "run", "streams", "--short", "--json", "--out", tmp_path / "out"],
        env={**os.environ, "HEADEND_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert {(row["change"], row["kind"]) for row in rows} == {
        (change, kind) for change in ("roll-out", "drain", "rollback") for kind in ("stream", "sequence")
    }
    assert [row["examples"] for row in rows] == [{}] * 6
    assert all(row["across"] > 0 and row["messages"] > row["streams"] for row in rows)
    assert left() == []


def test_envoy_weighs_sites_by_what_they_report(tmp_path: Path) -> None:
    (tmp_path / "trial.yaml").write_text(yaml.safe_dump(BY_LOAD))
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
