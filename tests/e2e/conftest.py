"""The real demo fleet, brought up once for all end-to-end tests, and small fleets."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from built import TEST_HOME, alone
from fleet_process import RunningFleet, declare, headend, processes_of


@pytest.fixture(scope="session")
def bundles() -> Path:
    """A state directory whose store has the demo's bundles."""
    with alone():
        headend("models", "build", "--all")
    return TEST_HOME


@pytest.fixture(scope="session")
def fleet(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFleet]:
    """The demo fleet, sites `hub` and `edge`, ready."""
    running = declare("e2e", tmp_path_factory.mktemp("fleet"))
    running.up()
    try:
        running.wait()
        yield running
    finally:
        running.end()
        assert processes_of(running.name) == []
        shutil.rmtree(bundles / "fleets" / running.name, ignore_errors=True)


@pytest.fixture(scope="session")
def small_bundles() -> Path:
    """The same with what small fleets serve, built in seconds."""
    with alone():
        headend("models", "build", "silero-vad", "open-nsfw")
    return TEST_HOME


@pytest.fixture
def small(small_bundles: Path, tmp_path: Path) -> Iterator[Callable[..., RunningFleet]]:
    """Declares fleets of one model and no app, which start in seconds; they are ended afterwards."""
    declared: list[RunningFleet] = []

    def make(sites: tuple[str, ...] = ("one",), **changes: Any) -> RunningFleet:
        made = declare(
            f"small{len(declared)}", tmp_path, sites, **{"models": {"silero-vad": {}}, "apps": {}, **changes}
        )
        made.write()
        declared.append(made)
        return made

    yield make
    for each in declared:
        if each.process is not None and each.process.poll() is None:
            each.process.terminate()
            each.process.wait(60)
        headend("down", "-f", each.file)
        shutil.rmtree(small_bundles / "fleets" / each.name, ignore_errors=True)
