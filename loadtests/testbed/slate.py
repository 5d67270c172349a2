"""An optimiser in the manner of SLATE (NSDI 2026): one controller, latency curves fitted by polynomials.

SLATE fits each cluster's latency over its load with a polynomial and minimises the sum of all latencies,
network included, over the shares of every cluster pair. Here the fit's points come from the approximation of
M/G/c by Allen and Cunneen at the declared compute times, and the offered rates are the declared ones: a
controller that measured for long and knows the present exactly, which is generous to it. It knows neither
payload sizes nor classes, as SLATE does not.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from loadtests.testbed.scenario import Cell, Compute, Scenario, Size

Floats = npt.NDArray[np.float64]
DEGREE = 4
FITTED_TO = 0.98
"""Loads of the fit, as a share of capacity, go from 0 to this; no site is given more."""


def shares(
    scenario: Scenario, cell: Cell, ingress: Mapping[str, float], model: str
) -> dict[str, dict[str, float]]:
    """For each front door the share of each site."""
    sites = list(scenario.sites)
    rates = dict(zip((stream.model for stream in scenario.traffic), scenario.rates(cell), strict=True))
    total = sum(ingress.values())
    offered = np.array([rates.get(model, 0.0) * ingress.get(site, 0.0) / total for site in sites])
    rtt = np.array([[0 if a == b else scenario.between(a, b).rtt_ms / 1e3 for b in sites] for a in sites])
    capacity = np.array([scenario.capacity(site, model) for site in sites])
    fits = [_fit(scenario.sites[site], scenario.models[model]) for site in sites]
    found = _minimise(offered, rtt, capacity, fits)
    return {a: dict(zip(sites, row, strict=True)) for a, row in zip(sites, found.tolist(), strict=True)}


def _fit(size: Size, compute: Compute) -> Floats:
    """Coefficients of the mean response, in seconds, over the load as a share of capacity.

    By relative error: the pole at full load would bend the curve below nothing elsewhere.
    """
    load = np.linspace(0, FITTED_TO, 40)
    time = compute.mean_ms / 1e3 / size.speed
    power = np.sqrt(2 * (size.copies + 1)) - 1
    wait = time / size.copies * (1 + compute.cv**2) / 2 * load**power / (1 - load)
    found: Floats = np.polyfit(load, time + wait, DEGREE, w=1 / (time + wait))
    return found


def _minimise(offered: Floats, rtt: Floats, capacity: Floats, fits: list[Floats]) -> Floats:
    count = len(offered)

    def loads(flat: Floats) -> Floats:
        return offered @ flat.reshape(count, count)

    def cost(flat: Floats) -> float:
        network = float((flat.reshape(count, count) * offered[:, None] * rtt).sum())
        each = zip(loads(flat), capacity, fits, strict=True)
        queues = sum(float(rate * np.polyval(fit, rate / most)) for rate, most, fit in each)
        # Mean milliseconds, since the solver's tolerance is absolute.
        return float((network + queues) / offered.sum() * 1e3)

    constraints = [
        {"type": "eq", "fun": lambda flat: flat.reshape(count, count).sum(1) - 1},
        {"type": "ineq", "fun": lambda flat: FITTED_TO - loads(flat) / capacity},
    ]
    start = np.tile(capacity / capacity.sum(), (count, 1)).ravel()
    found = minimize(
        cost,
        start,
        bounds=[(0, 1)] * count**2,
        constraints=constraints,
        method="SLSQP",
        options={"ftol": 1e-9, "maxiter": 500},
    )
    split = np.clip(found.x.reshape(count, count), 0, 1)
    return np.asarray(split / split.sum(1, keepdims=True), np.float64)
