"""Two real servers, asked in turn by the real engine: the slower one is found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from typer.testing import CliRunner

from loadtests.cli import app
from loadtests.comparison.command import COMPARISON
from loadtests.results import Result

SERVER = Path(__file__).parent / "engine" / "answering_server.py"
CAMPAIGN = {
    "campaign": "words",
    "title": "Short texts",
    "seconds": 2,
    "workload": [{"name": "words", "app": "review", "client": "http", "input": "clean-texts"}],
    "arrivals": [{"kind": "constant", "rate": 20}],
    "objectives": {"classes": {"interactive": {"p50_ms": 20_000}}},
}


@contextmanager
def server(delay: float) -> Iterator[str]:
    command = [sys.executable, str(SERVER), f"--delay={delay}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def test_the_slower_of_two_targets(tmp_path: Path) -> None:
    file, out = tmp_path / "words.yaml", tmp_path / "rounds"
    file.write_text(yaml.safe_dump(CAMPAIGN), "utf-8")
    with server(0.02) as a, server(0.6) as b:
        asked = [
            "compare",
            str(file),
            "--target",
            a,
            "--against",
            b,
            "--rounds",
            "3",
            "--out",
            str(out),
            "--json",
        ]
        done = CliRunner().invoke(app, asked)
    found = json.loads(done.stdout)
    assert done.exit_code == 1, found
    assert found["words"].startswith("B is slower: p50 ")
    assert found["a"] == ["round-01-a", "round-02-a", "round-03-a"]
    assert json.loads((out / COMPARISON).read_text("utf-8")) == found
    assert all(Result.load(out / name).complete for name in (*found["a"], *found["b"]))
