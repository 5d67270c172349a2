"""Simulated cells under every policy and several seeds: in as many processes as there are cores."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.progress import track
from rich.table import Table

from loadtests.bench import report
from loadtests.campaign import Campaign
from loadtests.sim.policies import BOUND
from loadtests.sim.run import simulate
from loadtests.sim.topology import Topology
from models.files import write_atomic

Figures = dict[str, float]
OURS = "headend"
METRICS = ("mean_ms", "p99_ms")
WITHIN = 1.05
"""`headend` is to be best, or this near to the best policy that can be built."""
LOSSY = 0.001
"""A policy that fails more requests than this is not called best for answering the rest soon."""


@dataclass(frozen=True)
class Cell:
    """One load on one fleet."""

    ingress: str
    load: float
    """As a share of all capacity."""
    topology: Topology
    campaigns: tuple[Campaign, ...]
    """One for each seed."""


def run(cells: Sequence[Cell], policies: Sequence[str]) -> list[dict[str, Any]]:
    """Every cell under every policy with every seed, and what that makes of the aims."""
    jobs = [
        (cell.topology, campaign, policy)
        for cell in cells
        for policy in policies
        for campaign in cell.campaigns
    ]
    processes = min(len(os.sched_getaffinity(0)), len(jobs))
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        done = iter(track(pool.map(_figures, jobs), "simulating", len(jobs), console=report.console))
        return [
            _judged(cell, {policy: [next(done) for _ in cell.campaigns] for policy in policies})
            for cell in cells
        ]


def publish(name: str, out: Path, cells: Sequence[Mapping[str, Any]], seeds: Iterable[int]) -> Path:
    """Write `out/<name>.json`. Figures are simulated: how busy the machine is does not move them."""
    out.mkdir(parents=True, exist_ok=True)
    document = {
        "benchmark": name,
        "headend": metadata.version("headend"),
        "seeds": list(seeds),
        "cells": list(cells),
    }
    path = out / f"{name}.json"
    write_atomic(path, (json.dumps(document, indent=1) + "\n").encode())
    return path


def _figures(job: tuple[Topology, Campaign, str]) -> Figures:
    topology, campaign, policy = job
    result = simulate(campaign, topology, policy).result
    response = result.histogram("response")
    return {
        "mean_ms": round(response.mean_ms, 2),
        "p99_ms": round(response.percentile_ms(99), 2),
        "failed": round(1 - sum(each.right for each in result.series) / result.sent, 6),
        "attempts": round(sum(each.attempts for each in result.series) / result.sent, 4),
    }


def _judged(cell: Cell, by_seed: dict[str, list[Figures]]) -> dict[str, Any]:
    figures = {policy: _means(found) for policy, found in by_seed.items()}
    whole = {policy: one for policy, one in figures.items() if policy != BOUND and one["failed"] <= LOSSY}
    judged: dict[str, Any] = {"ingress": cell.ingress, "load": cell.load, "policies": figures}
    if OURS in figures and whole:
        mine, best = figures[OURS], {}
        for metric in METRICS:
            policy = min(whole, key=lambda each: float(whole[each][metric]))
            ratios = _ratios(by_seed[OURS], by_seed[policy], metric)
            best[metric] = {"policy": policy, "ours_over_it": mine[metric] / whole[policy][metric]} | ratios
        judged["best"] = best
        judged["aims"] = {
            f"{metric} best or within 5%": best[metric]["ours_over_it"] <= WITHIN for metric in METRICS
        }
        if BOUND in figures:
            judged["over_bound"] = {metric: mine[metric] / figures[BOUND][metric] for metric in METRICS}
    return judged


def _means(found: Sequence[Figures]) -> dict[str, Any]:
    """Means over the seeds, and what each seed gave."""
    means = {name: round(fmean(one[name] for one in found), 6) for name in found[0]}
    return means | {"by_seed": {metric: [one[metric] for one in found] for metric in METRICS}}


def _ratios(mine: Sequence[Figures], other: Sequence[Figures], metric: str) -> dict[str, float]:
    """The least and the largest ratio of any seed: both had the same arrivals."""
    ratios = [a[metric] / b[metric] for a, b in zip(mine, other, strict=True)]
    return {"least": min(ratios), "most": max(ratios)}


def table(title: str, cells: Sequence[Mapping[str, Any]], policies: Sequence[str]) -> Table:
    """Mean and p99 of every policy in every cell; ours stands out where it misses an aim."""
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in ("ingress", "load", *policies):
        shown.add_column(heading, justify="left" if heading == "ingress" else "right")
    for cell in cells:
        row = [_shown(cell, policy) for policy in policies]
        shown.add_row(cell["ingress"], f"{cell['load']:.0%}", *row)
    return shown


def _shown(cell: Mapping[str, Any], policy: str) -> str:
    figures = cell["policies"][policy]
    text = f"{figures['mean_ms']:.0f}/{figures['p99_ms']:.0f}"
    if figures["failed"] > LOSSY:
        text += f" ({figures['failed']:.1%})"
    missed = policy == OURS and not all(cell.get("aims", {}).values())
    return f"[yellow]{text}[/]" if missed else text
