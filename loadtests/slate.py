"""An optimiser in the manner of SLATE (NSDI 2026): one controller, latency curves fitted by polynomials.

SLATE fits each cluster's latency over its load with a polynomial and minimises the sum of all latencies,
network included, over the shares of every cluster pair. Here the fit's points come from the approximation of
M/G/c by Allen and Cunneen at the declared compute times, and the offered rates are the declared ones: a
controller that measured for long and knows the present exactly, which is generous to it. It knows neither
payload sizes nor classes, as SLATE does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

Floats = npt.NDArray[np.float64]
DEGREE = 4
FITTED_TO = 0.98
"""Loads of the fit, as a share of capacity, go from 0 to this; no site is given more."""


@dataclass(frozen=True)
class Queue:
    """One site's servers, as the controller has learnt them."""

    servers: int
    mean_s: float
    """Mean time of one execution, seconds."""
    cv: float
    """Coefficient of variation of that time."""
    capacity: float
    """Requests a second at most."""


def shares(offered: Floats, rtt_s: Floats, queues: Sequence[Queue]) -> Floats:
    """The share of each front door's requests (row) that each site (column) gets; rows sum to 1.

    `offered`: requests a second by front door, of which there are some; `rtt_s`: round trips, seconds.
    """
    capacity = np.array([queue.capacity for queue in queues])
    return _minimise(offered, rtt_s, capacity, [_fit(queue) for queue in queues])


def _fit(queue: Queue) -> Floats:
    """Coefficients of the mean response, in seconds, over the load as a share of capacity.

    By relative error: the pole at full load would bend the curve below nothing elsewhere.
    """
    load = np.linspace(0, FITTED_TO, 40)
    power = np.sqrt(2 * (queue.servers + 1)) - 1
    wait = queue.mean_s / queue.servers * (1 + queue.cv**2) / 2 * load**power / (1 - load)
    found: Floats = np.polyfit(load, queue.mean_s + wait, DEGREE, w=1 / (queue.mean_s + wait))
    return found


def _minimise(offered: Floats, rtt: Floats, capacity: Floats, fits: list[Floats]) -> Floats:
    def loads(flat: Floats) -> Floats:
        return offered @ flat.reshape(rtt.shape)

    def cost(flat: Floats) -> float:
        network = float((flat.reshape(rtt.shape) * offered[:, None] * rtt).sum())
        each = zip(loads(flat), capacity, fits, strict=True)
        queues = sum(float(rate * np.polyval(fit, rate / most)) for rate, most, fit in each)
        # Mean milliseconds, since the solver's tolerance is absolute.
        return float((network + queues) / offered.sum() * 1e3)

    constraints = [
        {"type": "eq", "fun": lambda flat: flat.reshape(rtt.shape).sum(1) - 1},
        {"type": "ineq", "fun": lambda flat: FITTED_TO - loads(flat) / capacity},
    ]
    start = np.tile(capacity / capacity.sum(), (len(offered), 1)).ravel()
    found = minimize(
        cost,
        start,
        bounds=[(0, 1)] * rtt.size,
        constraints=constraints,
        method="SLSQP",
        options={"ftol": 1e-9, "maxiter": 500},
    )
    split = np.clip(found.x.reshape(rtt.shape), 0, 1)
    return np.asarray(split / split.sum(1, keepdims=True), np.float64)
