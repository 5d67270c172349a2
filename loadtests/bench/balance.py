"""How the policies of balancing compare: four unlike sites, simulated.

Capacities 1:2:4:8, round trips from 2 to 80 ms, clients evenly spread, in proportion to capacity, most where
capacity is least, or most at one site after the other. Every policy gets the same arrivals; what it hears of
other sites is a second old. Figures are simulated, so they are the same on every machine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from rich.table import Table

from loadtests.bench import report
from loadtests.campaign import Campaign
from loadtests.sim.policies import BOUND, POLICIES
from loadtests.sim.run import simulate
from loadtests.sim.topology import Topology
from models.files import write_atomic

Ingress = Literal["even", "in-proportion", "skewed", "moving"]
WEIGHTS: dict[Ingress, tuple[float, ...]] = {
    "even": (1, 1, 1, 1),
    "in-proportion": (1, 2, 4, 8),
    "skewed": (8, 4, 2, 1),
}
LOADS = (0.5, 0.7, 0.85, 0.95)
SEEDS = (1, 2, 3)
SECONDS, WARM_UP_S = 60.0, 10.0
MOVING_SHARE = 0.55
"""Of all requests, at the site where most come."""
MEAN_MS = 20.0
SITES = 4
RTTS_MS = {(0, 1): 2, (0, 2): 20, (0, 3): 60, (1, 2): 10, (1, 3): 40, (2, 3): 80}
WITHIN = 1.05
"""`headend` is to be best, or this near to the best policy that can be built."""


def fleet() -> Topology:
    """Four sites with 1, 2, 4 and 8 servers of 20 ms each."""
    service = {"kind": "lognormal", "mean_ms": MEAN_MS, "cv": 0.5}
    return Topology.model_validate(
        {
            "topology": "four-sites",
            "pools": {"ppocr-cls": {"service": {1: service}, "waiting": 40}},
            "sites": {f"s{number}": {"scale": 2**number} for number in range(SITES)},
            "network": {
                "links": [{"between": [f"s{a}", f"s{b}"], "rtt_ms": rtt} for (a, b), rtt in RTTS_MS.items()]
            },
            "concurrency": 2_000,
        }
    )


def campaign(ingress: Ingress, load: float, seed: int, seconds: float = SECONDS) -> Campaign:
    """Poisson arrivals of `load` times all capacity."""
    rate = load * (2**SITES - 1) * 1e3 / MEAN_MS
    return Campaign.model_validate(
        {
            "campaign": "balance",
            "title": f"{ingress} ingress at {load:.0%}",
            "seed": seed,
            "seconds": seconds,
            "warm_up_s": WARM_UP_S * seconds / SECONDS,
            "workload": [{"name": "cls", "model": "ppocr-cls", "client": "http", "input": "text-lines"}],
            "arrivals": _arrivals(ingress, rate, seconds),
            "limits": {"in_flight": 100_000, "requests": 10_000_000},
        }
    )


def _arrivals(ingress: Ingress, rate: float, seconds: float) -> list[dict[str, Any]]:
    if ingress == "moving":
        quiet, long = (1 - MOVING_SHARE) / (SITES - 1), seconds / SITES
        return [
            {
                "kind": "poisson",
                "rate": rate * (MOVING_SHARE if site == turn else quiet),
                "site": f"s{site}",
                "from_s": turn * long,
                "until_s": (turn + 1) * long,
            }
            for turn in range(SITES)
            for site in range(SITES)
        ]
    weights = WEIGHTS[ingress]
    return [
        {"kind": "poisson", "rate": rate * weight / sum(weights), "site": f"s{site}"}
        for site, weight in enumerate(weights)
    ]


def run(
    out: Path,
    policies: Sequence[str] = tuple(POLICIES),
    loads: Sequence[float] = LOADS,
    seeds: Sequence[int] = SEEDS,
) -> list[dict[str, Any]]:
    """Simulate every cell and publish `balance.json` in `out`; returns the cells."""
    cells = []
    for ingress in (*WEIGHTS, "moving"):
        for load in loads:
            with report.console.status(f"{ingress}, {load:.0%}"):
                cells.append(_cell(ingress, load, policies, seeds))
    report.console.print(_table(cells, policies))
    out.mkdir(parents=True, exist_ok=True)
    document = {
        "benchmark": "balance",
        "headend": metadata.version("headend"),
        "seeds": list(seeds),
        "cells": cells,
    }
    write_atomic(out / "balance.json", (json.dumps(document, indent=1) + "\n").encode())
    return cells


def _cell(ingress: Ingress, load: float, policies: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    figures = {policy: _figures(ingress, load, policy, seeds) for policy in policies}
    buildable = {policy: found for policy, found in figures.items() if policy != BOUND}
    best = {
        name: min(found[name] for found in buildable.values() if found["failed"] <= LOSSY)
        for name in ("mean_ms", "p99_ms")
    }
    aims = {}
    if "headend" in figures:
        mine = figures["headend"]
        aims = {f"{name} best or within 5%": mine[name] <= WITHIN * best[name] for name in best}
    return {"ingress": ingress, "load": load, "policies": figures, "best": best, "aims": aims}


LOSSY = 0.001
"""A policy that fails more requests than this is not called best for answering the rest soon."""


def _figures(ingress: Ingress, load: float, policy: str, seeds: Sequence[int]) -> dict[str, float]:
    """Means over the seeds."""
    results = [simulate(campaign(ingress, load, seed), fleet(), policy).result for seed in seeds]
    histograms = [result.histogram("response") for result in results]
    return {
        "mean_ms": fmean(one.mean_ms for one in histograms),
        "p99_ms": fmean(one.percentile_ms(99) for one in histograms),
        "failed": fmean(1 - sum(each.right for each in result.series) / result.sent for result in results),
    }


def _table(cells: Sequence[dict[str, Any]], policies: Sequence[str]) -> Table:
    table = Table(title="mean / p99 ms, and failed requests", title_justify="left", box=None, pad_edge=False)
    for heading in ("ingress", "load", *policies):
        table.add_column(heading, justify="left" if heading == "ingress" else "right")
    for cell in cells:
        row = [f"{_shown(cell, policy)}" for policy in policies]
        table.add_row(cell["ingress"], f"{cell['load']:.0%}", *row)
    return table


def _shown(cell: dict[str, Any], policy: str) -> str:
    figures = cell["policies"][policy]
    text = f"{figures['mean_ms']:.0f}/{figures['p99_ms']:.0f}"
    if figures["failed"] > LOSSY:
        text += f" ({figures['failed']:.1%})"
    missed = policy == "headend" and not all(cell["aims"].values())
    return f"[yellow]{text}[/]" if missed else text
