"""Big payloads on a thin line, simulated: an outside-broadcast van with 10 Mbit/s to all others.

The van's box has 2 servers, the studio 2, the hub 4; a picture of 200 kB takes 150 ms of a server and 160 ms
of the van's line, which carries 6 of them a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from loadtests.bench import report, simulated
from loadtests.campaign import Campaign
from loadtests.sim.policies import POLICIES
from loadtests.sim.topology import Topology

Ingress = Literal["even", "mostly-van", "no-van"]
WEIGHTS: dict[Ingress, dict[str, float]] = {
    "even": {"van": 1, "studio": 1, "hub": 1},
    "mostly-van": {"van": 2, "studio": 1, "hub": 1},
    "no-van": {"studio": 1, "hub": 1},
}
"""With most at the van, up to the load at which its servers and its line are full together."""
LOADS: dict[Ingress, tuple[float, ...]] = {
    "even": (0.5, 0.7, 0.85),
    "mostly-van": (0.4, 0.5),
    "no-van": (0.5, 0.7, 0.85),
}
SEEDS = (1, 2, 3)
SECONDS, WARM_UP_S = 120.0, 20.0
SCALES = {"van": 2, "studio": 2, "hub": 4}
MEAN_MS, REQUEST_KB, RTT_MS, VAN_RTT_MS, MBIT_S = 150.0, 200.0, 10.0, 30.0, 10.0


def fleet() -> Topology:
    """Three sites, one of them behind a thin line."""
    service = {"kind": "lognormal", "mean_ms": MEAN_MS, "cv": 0.5}
    pool = {"service": {1: service}, "waiting": 40, "request_kib": REQUEST_KB * 1e3 / 1024, "response_kib": 1}
    return Topology.model_validate(
        {
            "topology": "thin-links",
            "pools": {"open-nsfw": pool},
            "sites": {
                name: {"scale": scale} | ({"uplink_mbit_s": MBIT_S} if name == "van" else {})
                for name, scale in SCALES.items()
            },
            "network": {
                "rtt_ms": RTT_MS,
                "links": [{"between": ["van", other], "rtt_ms": VAN_RTT_MS} for other in ("studio", "hub")],
            },
            "concurrency": 2_000,
        }
    )


def campaign(ingress: Ingress, load: float, seed: int) -> Campaign:
    """Poisson arrivals of `load` times all capacity."""
    weights = WEIGHTS[ingress]
    rate = load * sum(SCALES.values()) * 1e3 / MEAN_MS
    return Campaign.model_validate(
        {
            "campaign": "thin-links",
            "title": f"{ingress} ingress at {load:.0%}",
            "seed": seed,
            "seconds": SECONDS,
            "warm_up_s": WARM_UP_S,
            "workload": [{"name": "picture", "model": "open-nsfw", "client": "http", "input": "random"}],
            "arrivals": [
                {"kind": "poisson", "rate": rate * weight / sum(weights.values()), "site": site}
                for site, weight in weights.items()
            ],
            "limits": {"in_flight": 100_000, "requests": 10_000_000},
        }
    )


def run(
    out: Path, policies: Sequence[str] = tuple(POLICIES), seeds: Sequence[int] = SEEDS
) -> list[dict[str, Any]]:
    """Simulate every cell and publish `thin-links.json` in `out`; returns the cells."""
    cells = simulated.run(
        [
            simulated.Cell(ingress, load, fleet(), tuple(campaign(ingress, load, seed) for seed in seeds))
            for ingress, loads in LOADS.items()
            for load in loads
        ],
        policies,
    )
    report.console.print(simulated.table("mean / p99 ms, and failed requests", cells, policies))
    simulated.publish("thin-links", out, cells, seeds)
    return cells
