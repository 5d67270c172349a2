"""Sites of unlike speed, and bursts that are too much for all of them, simulated: the testbed's four sites.

A kiosk with 1 server, an edge with 2, a plant with 4, and a hub with 4 that take half the time; most clients
are where there is least. Arrivals are Poisson's, or as recorded in a trace, in which several seconds bring
more than all sites together can answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from loadtests import traces
from loadtests.bench import report, simulated
from loadtests.campaign import Campaign
from loadtests.sim.policies import POLICIES
from loadtests.sim.topology import Topology

Arrivals = Literal["poisson", "trace"]
LOADS: dict[Arrivals, tuple[float, ...]] = {"poisson": (0.7, 0.85, 0.95), "trace": (0.7,)}
SECONDS: dict[Arrivals, float] = {"poisson": 120.0, "trace": 40.0}
WARM_UP_S = 6.0
SEEDS = (1, 2, 3, 4, 5, 6)
TRACE = "azure-llm-2023-conv"
MEAN_MS, RTT_MS = 150.0, 20.0
RTTS_MS = {("kiosk", "edge"): 2, ("kiosk", "hub"): 80, ("plant", "hub"): 10, ("edge", "hub"): 40}
SITES = {"kiosk": (1, 1), "edge": (2, 1), "plant": (4, 1), "hub": (4, 2)}
"""Servers and speed."""
CLIENTS = {"kiosk": 6, "edge": 6, "plant": 2, "hub": 1}


def fleet() -> Topology:
    """Four sites of capacities 1, 2, 4 and 8."""
    service = {"kind": "lognormal", "mean_ms": MEAN_MS, "cv": 0.5}
    return Topology.model_validate(
        {
            "topology": "unlike-sites",
            "pools": {"clip": {"service": {1: service}, "waiting": 64}},
            "sites": {name: {"scale": servers, "speed": speed} for name, (servers, speed) in SITES.items()},
            "network": {
                "rtt_ms": RTT_MS,
                "links": [{"between": list(ends), "rtt_ms": rtt} for ends, rtt in RTTS_MS.items()],
            },
            "concurrency": 2_000,
        }
    )


def campaign(kind: Arrivals, load: float, seed: int) -> Campaign:
    """Arrivals of `load` times all capacity on average."""
    seconds = SECONDS[kind]
    rate = load * sum(servers * speed for servers, speed in SITES.values()) * 1e3 / MEAN_MS
    return Campaign.model_validate(
        {
            "campaign": "unlike-sites",
            "title": f"{kind} arrivals at {load:.0%}",
            "seed": seed,
            "seconds": seconds,
            "warm_up_s": WARM_UP_S,
            "workload": [{"name": "clip", "model": "clip", "client": "http", "input": "random"}],
            "arrivals": [
                {"site": site, **_shape(kind, rate * weight / sum(CLIENTS.values()), seconds)}
                for site, weight in CLIENTS.items()
            ],
            "limits": {"in_flight": 100_000, "requests": 10_000_000},
        }
    )


def _shape(kind: Arrivals, rate: float, seconds: float) -> dict[str, Any]:
    if kind == "poisson":
        return {"kind": "poisson", "rate": rate}
    return {"kind": "trace", "trace": TRACE, "rate_scale": traces.rate_scale(TRACE, rate, seconds)}


def run(
    out: Path, policies: Sequence[str] = tuple(POLICIES), seeds: Sequence[int] = SEEDS
) -> list[dict[str, Any]]:
    """Simulate every cell and publish `unlike-sites.json` in `out`; returns the cells."""
    cells = simulated.run(
        [
            simulated.Cell(kind, load, fleet(), tuple(campaign(kind, load, seed) for seed in seeds))
            for kind, loads in LOADS.items()
            for load in loads
        ],
        policies,
    )
    report.console.print(simulated.table("mean / p99 ms, and failed requests", cells, policies))
    simulated.publish("unlike-sites", out, cells, seeds)
    return cells
