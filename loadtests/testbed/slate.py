"""The shares of an optimiser in the manner of SLATE, told what a scenario declares: see `loadtests.slate`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from loadtests import slate
from loadtests.testbed.scenario import Cell, Scenario


def shares(
    scenario: Scenario, cell: Cell, ingress: Mapping[str, float], model: str
) -> dict[str, dict[str, float]]:
    """For each front door the share of each site."""
    sites = list(scenario.sites)
    rates = dict(zip((stream.model for stream in scenario.traffic), scenario.rates(cell), strict=True))
    total = sum(ingress.values())
    offered = np.array([rates.get(model, 0.0) * ingress.get(site, 0.0) / total for site in sites])
    rtt = np.array([[0 if a == b else scenario.between(a, b).rtt_ms / 1e3 for b in sites] for a in sites])
    compute = scenario.models[model]
    queues = [
        slate.Queue(
            size.copies, compute.mean_ms / 1e3 / size.speed, compute.cv, scenario.capacity(site, model)
        )
        for site, size in scenario.sites.items()
    ]
    found = slate.shares(offered, rtt, queues)
    return {a: dict(zip(sites, row, strict=True)) for a, row in zip(sites, found.tolist(), strict=True)}
