"""How the policies of balancing compare: four unlike sites, simulated.

Capacities 1:2:4:8, round trips from 2 to 80 ms, clients evenly spread, in proportion to capacity, most where
capacity is least, or most at one site after the other. Every policy gets the same arrivals; what it hears of
other sites is a second old. Figures are simulated: how busy the machine is does not move them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from loadtests.bench import report, simulated
from loadtests.bench.picture import draw
from loadtests.campaign import Campaign
from loadtests.sim.policies import POLICIES
from loadtests.sim.topology import Topology

Ingress = Literal["even", "in-proportion", "skewed", "moving"]
WEIGHTS: dict[Ingress, tuple[float, ...]] = {
    "even": (1, 1, 1, 1),
    "in-proportion": (1, 2, 4, 8),
    "skewed": (8, 4, 2, 1),
}
INGRESSES: tuple[Ingress, ...] = (*WEIGHTS, "moving")
LOADS = (0.5, 0.7, 0.85, 0.95)
SEEDS = (1, 2, 3)
SECONDS, WARM_UP_S = 60.0, 10.0
MOVING_SHARE = 0.55
"""Of all requests, at the site where most come."""
MEAN_MS = 20.0
SITES = 4
RTTS_MS = {(0, 1): 2, (0, 2): 20, (0, 3): 60, (1, 2): 10, (1, 3): 40, (2, 3): 80}


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
    """Simulate every cell, publish `balance.json` and `balance.png` in `out`; returns the cells."""
    cells = simulated.run(
        [
            simulated.Cell(ingress, load, fleet(), tuple(campaign(ingress, load, seed) for seed in seeds))
            for ingress in INGRESSES
            for load in loads
        ],
        policies,
    )
    report.console.print(simulated.table("mean / p99 ms, and failed requests", cells, policies))
    simulated.publish("balance", out, cells, seeds)
    draw(cells, policies, out / "balance.png")
    return cells
