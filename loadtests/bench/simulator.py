"""The simulator: how fast it is, and whether it is right.

Right: a topology is measured from runs of single kinds of work at low load on a live two-site fleet; then the
live fleet and the simulated one get the same mixed campaign at a load that neither has seen before.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from loadtests.bench import report
from loadtests.bench.fleet import fleet_of, running
from loadtests.bench.machine import Watch, cpu_seconds
from loadtests.campaign import Campaign
from loadtests.engine import Targets, run_campaign
from loadtests.results import Result
from loadtests.sim.calibration import measured
from loadtests.sim.policies import POLICIES
from loadtests.sim.run import simulate
from loadtests.sim.times import mean_ms
from loadtests.sim.topology import Topology
from models.errors import HeadendError

SITES = ("hub", "edge")
AIM_PER_MINUTE = 1_000_000
"""Simulated requests that one core must work off in a minute, with ten sites."""
WITHIN = {"mean": 1.25, "p99": 1.5}
"""The simulated fleet's response is to be within this factor of the live one's, either way."""
LOAD = 0.5
"""Share of the machine's processor time that the live fleet is to use in the comparison."""
ROUNDS = 3
MIXED_S = 120.0


class Alone(NamedTuple):
    """A kind of work, and how it is sent to be measured alone."""

    work: dict[str, Any]
    rate: float
    seconds: float


WORKS = (
    Alone({"name": "lines", "model": "ppocr-cls", "client": "triton-http", "input": "text-lines"}, 4, 60),
    Alone({"name": "texts", "app": "review", "client": "http", "input": "unwanted-texts"}, 4, 60),
    Alone({"name": "captions", "app": "review", "client": "http", "input": "captions"}, 0.5, 90),
    Alone({"name": "speech", "app": "subtitles", "client": "openai", "input": "mandarin-news"}, 0.15, 180),
)
WARM_UP_S = 10.0


def run(out: Path) -> None:
    """Measure both and publish `simulator.json` in `out`."""
    speed = measure_speed()
    with running(SITES) as status:
        sites = status["sites"]
        pids = [sites[site]["pid"] for site in SITES]
        watch = Watch.start(pids)
        targets = Targets.of_fleet(fleet_of(status, SITES))
        figures = compare_with(
            partial(_live, targets=targets), _UsedForRequests(pids), float(os.cpu_count() or 1)
        )
        conditions = watch.stop()
    report.publish("simulator", out, conditions, {"speed": speed, "validation": figures})


def measure_speed(sites: int = 10, seconds: float = 60) -> dict[str, Any]:
    """Simulated requests and events by processor second, under each policy; and with a thousand sites.

    Processor time includes making the arrivals and counting the answers.
    """
    table = Table(title=f"{sites} sites at half load", title_justify="left")
    for heading in ("policy", "requests", "CPU s", "million requests / CPU minute", "events / CPU s"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    figures: dict[str, Any] = {}
    for policy in POLICIES:
        figures[policy] = _speed(made_fleet(sites), policy, seconds)
        _row(table, policy, figures[policy])
    thousand = _speed(made_fleet(1000), "headend", seconds / 60)
    _row(table, "headend, 1000 sites", thousand)
    report.console.print(table)
    return {
        "sites": sites,
        "policies": figures,
        "thousand_sites": thousand,
        "aims": {f"{AIM_PER_MINUTE} a minute": figures["headend"]["per_minute"] >= AIM_PER_MINUTE},
    }


def _row(table: Table, name: str, figures: Mapping[str, float]) -> None:
    table.add_row(
        name,
        f"{figures['requests']:,.0f}",
        f"{figures['cpu_s']:.1f}",
        f"{figures['per_minute'] / 1e6:.2f}",
        f"{figures['events_per_s']:,.0f}",
    )


def _speed(fleet: Topology, policy: str, seconds: float) -> dict[str, float]:
    campaign = _campaign(
        [
            {"name": "model", "model": "ppocr-cls", "client": "http", "input": "text-lines", "weight": 3},
            {"name": "app", "app": "review", "client": "http", "input": "clean-texts"},
        ],
        [{"kind": "poisson", "rate": 400.0 * len(fleet.sites)}],
        seconds,
    )
    begin = time.process_time()
    result, _, events = simulate(campaign, fleet, policy)
    cpu = time.process_time() - begin
    return {
        "requests": result.sent,
        "cpu_s": cpu,
        "per_minute": 60 * result.sent / cpu,
        "events_per_s": events / cpu,
    }


def made_fleet(sites: int) -> Topology:
    """Sites alike with one batching model and one app, half busy at 400 requests a second each."""
    small = {"kind": "lognormal", "mean_ms": 8, "cv": 0.5}
    large = {"kind": "lognormal", "mean_ms": 16, "cv": 0.5}
    app = {"kind": "lognormal", "mean_ms": 30, "cv": 1}
    return Topology.model_validate(
        {
            "topology": "made",
            "pools": {
                "ppocr-cls": {"instances": 2, "max_batch": 4, "waiting": 32, "service": {1: small, 4: large}},
                "review": {"kind": "app", "instances": 8, "waiting": 32, "service": {1: app}},
            },
            "sites": {f"s{number}": {} for number in range(sites)},
            "network": {"rtt_ms": 5},
        }
    )


def compare_with(
    live: Callable[[Campaign], Result], cpu_s: Callable[[], float], cores: float
) -> dict[str, Any]:
    """Simulated over live, by mixed campaigns after every kind of work was measured alone.

    `live` runs a campaign on a fleet whose sites share one machine of so many `cores`; `cpu_s` gives the
    processor seconds that this fleet has used for requests so far.
    """
    runs, cpu_each = [], {}
    for alone in WORKS:
        name = alone.work["name"]
        campaign = _campaign([alone.work], [{"kind": "constant", "rate": alone.rate}], alone.seconds)
        before = cpu_s()
        runs.append(live(campaign))
        cpu_each[name] = max(0.001, (cpu_s() - before) / (alone.rate * alone.seconds))
        mean = runs[-1].histogram("response").mean_ms
        report.console.print(f"{name}: {mean:.0f} ms, {1e3 * cpu_each[name]:.0f} ms of processor time")
    topology = measured(runs, cores=cores, busy=_busy(measured(runs), cpu_each, cores))
    rates = {name: LOAD * cores / len(WORKS) / cpu for name, cpu in cpu_each.items()}
    arrivals = [{"kind": "poisson", "rate": rate, "work": [name]} for name, rate in rates.items()]
    pairs = []
    for number in range(ROUNDS):
        mixed = _campaign([alone.work for alone in WORKS], arrivals, MIXED_S, seed=100 + number)
        pairs.append((live(mixed), simulate(mixed, topology).result))
    ratios = {kind: [_ratio(*pair, kind) for pair in pairs] for kind in WITHIN}
    held = {kind: 1 / within <= statistics.median(ratios[kind]) <= within for kind, within in WITHIN.items()}
    for kind, found in ratios.items():
        each = ", ".join(f"{ratio:.2f}" for ratio in found)
        report.console.print(f"{kind} response, simulated / live: {each}; within bounds: {held[kind]}")
    return {
        "rates": rates,
        "cpu_s_per_request": cpu_each,
        "by_work": {
            alone.work["name"]: {
                kind: [_ratio(*pair, kind, alone.work["name"]) for pair in pairs] for kind in WITHIN
            }
            for alone in WORKS
        },
        "simulated_over_live": ratios,
        "bounds": WITHIN,
        "aims": {f"median {kind} ratio within bounds": ok for kind, ok in held.items()},
        "topology": topology.model_dump(mode="json", exclude_defaults=True),
    }


def _campaign(
    works: Sequence[dict[str, Any]], arrivals: Sequence[dict[str, Any]], seconds: float, seed: int = 1
) -> Campaign:
    return Campaign.model_validate(
        {
            "campaign": "simulator",
            "title": "The simulator against the live fleet",
            "seed": seed,
            "seconds": seconds,
            "warm_up_s": min(WARM_UP_S, seconds / 10),
            "workload": works,
            "arrivals": arrivals,
            "limits": {"requests": 100_000_000, "in_flight": 1_000_000},
        }
    )


def _live(campaign: Campaign, targets: Targets) -> Result:
    """One run against the live fleet. Raises `HeadendError` where its figures mean nothing."""
    with tempfile.TemporaryDirectory(prefix="headend-bench-") as folder:
        result = run_campaign(campaign, targets, Path(folder), view=False, report=False)
    if result.generator.problems or not result.complete:
        raise HeadendError(
            "the load generator could not do its work: " + "; ".join(result.generator.problems),
            hint="Run it again when the machine is quiet.",
        )
    return result


class _UsedForRequests:
    """Processor seconds of the process trees at `pids`, without what they use at rest (probes and so on)."""

    def __init__(self, pids: Sequence[int], rest_s: float = 20) -> None:
        self._pids, self._begin = pids, time.monotonic()
        self._before = cpu_seconds(pids)
        time.sleep(rest_s)
        self._at_rest = (cpu_seconds(pids) - self._before) / rest_s

    def __call__(self) -> float:
        passed = time.monotonic() - self._begin
        return cpu_seconds(self._pids) - self._before - self._at_rest * passed


def _busy(topology: Topology, cpu_each: Mapping[str, float], cores: float) -> dict[str, float]:
    """Cores that an execution keeps busy, by pool: processor time of a request over its execution's."""
    found: dict[str, float] = {}
    for name, pool in topology.pools.items():
        works = [alone.work for alone in WORKS if name in (alone.work.get("app"), alone.work.get("model"))]
        shares = []
        for work in works:
            service = pool.inputs.get(work["input"], pool.service)
            shares.append(cpu_each[work["name"]] / (mean_ms(service[min(service)]) / 1e3))
        found[name] = min(cores, max(0.05, statistics.mean(shares)))
    return found


def _ratio(live: Result, simulated: Result, kind: str, work: str | None = None) -> float:
    """Simulated over live; `kind` is one of `WITHIN`."""
    a, b = (each.histogram("response", lambda one: work in (None, one.work)) for each in (simulated, live))
    if not b.count:
        raise HeadendError("the live fleet answered nothing rightly")
    return a.mean_ms / b.mean_ms if kind == "mean" else a.percentile_ms(99) / b.percentile_ms(99)
