"""How long a site takes under a load: the queue's approximation, and what one more request costs everybody.

One formula for servers that work on up to `B` requests together, of which `c` run at the same time. With
`t(b)` the time of an execution of `b` requests, `rho` the load over capacity `c B / t(B)`, and the batch that
forms by itself under the load, `b = clip(load t(b) / c, 1, B)`, so that servers are busy a share
`u = load t(b) / (c b)` of the time:

    wait = u^k (1 + cv2)/2 t(b)/c  +  rho^(k+1) / (1 - rho) (1/B + cv2)/2 t(B)/c,    k = sqrt(2 (c + 1)) - 1

The first term is what is left of the executions met, the second the batches that stand in line before one's
own. With B = 1 this is the approximation of Allen and Cunneen (A. O. Allen, "Probability, Statistics, and
Queueing Theory", 1990) with Sakasegawa's probability of waiting (H. Sakasegawa, "An approximation formula
L_q = alpha rho^beta / (1 - rho)", Annals of the Institute of Statistical Mathematics 29, 1977). That batches
form by the load alone, and that this describes GPU servers well, is Y. Inoue, "Queueing analysis of GPU-based
inference servers with dynamic batching", Performance Evaluation 147, 2021. Arrivals are taken as Poisson.

Not covered: queues of bounded room, batching with a declared delay, and load that changes within seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from serving.router.plan.problem import Floats, Member

GRID: Floats = np.concatenate([np.linspace(0, 0.8, 17), 1 - np.geomspace(0.17, 0.01, 15)])
"""Loads, as shares of capacity, at which the cost is computed; straight lines in between."""


class _Busy(NamedTuple):
    """Servers under a load; arrays are of shape (members, 1) or (members, loads)."""

    servers: Floats
    batch: Floats
    full: Floats
    """Seconds of a full execution."""
    cv2: Floats
    time: Floats
    """Seconds of an execution of the batch that forms by itself."""
    power: Floats
    """k, above."""
    met: Floats
    """Its logarithm times k: of the share of requests that find no server idle, `u^k`."""


def _busy(members: Sequence[Member], share: Floats) -> _Busy:
    figures = [(one.instances, one.single_s, one.max_batch, one.full, one.cv2) for one in members]
    c, single, batch, full, cv2 = np.array(figures, np.float64).reshape(-1, 5).T[..., None]
    capacity = c * batch / full
    load = share * capacity
    slope = np.divide(full - single, batch - 1, out=np.zeros_like(full), where=batch > 1)
    start = single - slope
    # Of load t(b) / c = b with the straight line t(b) = start + slope b.
    rest = np.maximum(c - load * slope, 1e-12)
    formed = np.clip(load * start / rest, 1, batch)
    time = start + slope * formed
    busy = np.minimum(1, load * time / (c * formed))
    power = np.sqrt(2 * (c + 1)) - 1
    # By logarithms: several times faster than raising to a power.
    with np.errstate(divide="ignore"):
        return _Busy(c, batch, full, cv2, time, power, power * np.log(busy))


def response_s(members: Sequence[Member], share: Floats) -> Floats:
    """Mean seconds from arrival to answer, by member and load; `share`: loads over capacity, below 1.

    `share` is of shape (loads,) or (members, loads).
    """
    one = _busy(members, share)
    residual = np.exp(one.met) * ((1 + one.cv2) / 2 / one.servers) * one.time
    with np.errstate(divide="ignore"):
        queued = np.exp((one.power + 1) * np.log(share)) / (1 - share)
    line = queued * ((1 / one.batch + one.cv2) / 2 * one.full / one.servers)
    response: Floats = one.time + residual + line
    return response


def idle(member: Member, share: float) -> float:
    """The share of requests that find a server idle at this load over capacity."""
    return 1 - float(np.exp(_busy([member], np.array([share])).met)[0, 0])


def marginal_s(members: Sequence[Member]) -> Floats:
    """What one more request a second adds to the seconds that all together take, at each load of `GRID`.

    Shape (members, loads), in seconds, rising along each row. It is the derivative of load times response,
    made to rise where batching lets it fall for a stretch, so that the plan's problem is convex.
    """
    steps = np.clip(GRID + np.array([[-5e-4], [5e-4]]), 0, 0.9999)
    low, high = (step * response_s(members, step) for step in steps)
    slopes = (high - low) / (steps[1] - steps[0])
    return np.maximum.accumulate(slopes, axis=1)
