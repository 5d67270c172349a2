"""Runs the scenario: sites in namespaces, streams at all front doors, and one change after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.bench.machine import Watch
from loadtests.testbed import network
from loadtests.testbed.bed import Tell, Testbed
from loadtests.testbed.scenario import Scenario
from loadtests.testbed.streams import NAME, TITLE, versions
from loadtests.testbed.streams.clients import Clients, Ended, clients
from loadtests.testbed.streams.report import Row
from models.errors import HeadendError

LONGEST_S = 20.0
EACH = 2
"""Streams of each kind at every front door."""
_CALM_S = 3.0
_LIMIT_S = 300.0
RULES = {"steps": [50], "samples": 10, "patience_s": 4, "watch_s": 1, "drain_s": 60}


class StreamBed(Testbed):
    """Sites that serve the two models, without a pace: what is looked at is streams, not time."""

    def change(self, site: str, *command: str) -> Any:
        """Run a command of headend on a site, as its operator would. Raises `HeadendError` when it fails."""
        program = str(Path(sys.executable).with_name("headend"))
        done = subprocess.run(
            network.inside(site, [program, *command, "--json", "-f", str(self._root / "fleet.yaml")]),
            env={**os.environ, "HEADEND_HOME": str(self._homes[site])},
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        if done.returncode:
            raise HeadendError(f"{' '.join(command)} failed at {site}.", hint=done.stderr[-2000:])
        return json.loads(done.stdout)

    def _build(self) -> None:
        versions.build_version(1)

    def _place(self, site: str) -> None:
        """Its files are derived as everywhere."""

    def _fleet(self) -> dict[str, object]:
        models: dict[str, object] = {name: {} for name in versions.MODELS}
        return {**super()._fleet(), "models": models, "rollout": RULES}


def scenario(*, short: bool) -> Scenario:
    """Sites and links; of the rest of a scenario's declaration nothing is used."""
    sites = ("hub", "west") if short else ("hub", "west", "east")
    return Scenario.model_validate(
        {
            "scenario": NAME,
            "title": TITLE,
            "sites": {site: {} for site in sites},
            "link": {"rtt_ms": 20, "jitter_ms": 1},
            "models": {name: {"mean_ms": 1} for name in versions.MODELS},
            "traffic": [{"model": versions.PLAIN, "p99_ms": 1000}],
            "cells": [{"name": "streams", "load": 0.1, "seconds": 1}],
        }
    )


def run(tell: Tell, *, short: bool) -> list[Row]:
    """Roll out a new version of both models, drain every site, roll back; what became of the streams."""
    wanted = scenario(short=short)
    with StreamBed(wanted, tell) as bed:
        names = list(wanted.sites)[:1] if short else list(wanted.sites)
        rows = []
        versions.build_version(2)
        for name, change in _changes(bed, names):
            tell(f"{name}, under streams and sequences")
            rows += _measured(bed, name, change, 1 if short else EACH)
    return rows


def _changes(bed: StreamBed, sites: Sequence[str]) -> list[tuple[str, Callable[[], None]]]:
    def roll_out() -> None:
        for site in sites:
            bed.change(site, "apply", "--site", site)

    def drain() -> None:
        for site in sites:
            bed.change(site, "drain", site)
            time.sleep(_CALM_S)
            bed.change(site, "undrain", site)

    def roll_back() -> None:
        for site in sites:
            bed.change(site, "rollback")

    return [("roll-out", roll_out), ("drain", drain), ("rollback", roll_back)]


def _measured(bed: StreamBed, name: str, change: Callable[[], None], each: int) -> list[Row]:
    machine = Watch.start()
    with clients(bed.doors, versions.MODELS, each, LONGEST_S) as asking:
        _wait_for_streams(asking)
        begun = time.monotonic()
        change()
        changed = time.monotonic()
        time.sleep(_CALM_S)
    pressure = machine.stop().pressure
    return [
        row_of(name, kind, [one for one in asking.ended if one.kind == kind], begun, changed, pressure)
        for kind in ("stream", "sequence")
    ]


def _wait_for_streams(asking: Clients) -> None:
    time.sleep(_CALM_S)
    if broken := [one.broken for one in asking.ended if one.broken]:
        raise HeadendError(f"Streams break before anything is changed: {broken[0]}")


def row_of(
    name: str, kind: str, ended: Sequence[Ended], begun: float, changed: float, pressure: float
) -> Row:
    """What became of the streams of one kind while a change went on from `begun` to `changed`."""
    broken = [one.broken for one in ended if one.broken]
    return Row(
        change=name,
        kind=kind,
        seconds=changed - begun,
        streams=len(ended),
        across=sum(one.began < changed and one.ended > begun for one in ended),
        messages=sum(one.messages for one in ended),
        broken=len(broken),
        examples={what: broken.count(what) for what in sorted(set(broken))},
        longest_s=max((one.ended - one.began for one in ended), default=0.0),
        slowest_ms=max((one.slowest_s for one in ended), default=0.0) * 1e3,
        pressure=float(np.round(pressure, 3)),
    )
