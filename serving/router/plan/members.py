"""From what one site says of one pool to a member of the plan's problem."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from serving.router.plan.problem import Member
from serving.router.telemetry.summary import PoolSummary

SHORTEST_S = 1e-5
"""No execution is taken to be shorter."""
SELDOM = 1.0
"""Answers a second below which a site's times may be chance: they are measured over half a minute."""
MOST_CV2 = 25.0
"""No more irregular than that: a few freak executions are not how a site answers."""


@dataclass(frozen=True)
class Figures:
    """What is known of a site's part in a pool; at least one of the times and the capacity is."""

    instances: int
    max_batch: int
    line: tuple[float, float] | None
    """Seconds of an execution of one request and of a full one."""
    capacity: float | None
    """Requests a second."""
    cv2: float
    room: int
    in_flight: float
    peak: float
    stale: bool
    seldom: bool

    @classmethod
    def of(
        cls, said: PoolSummary | None, declared: float | None, overdue_s: float, fade_s: float
    ) -> Figures | None:
        """None: nothing is known. `overdue_s`: for how long the site has been stale; below 0 it is fresh."""
        if said is None:
            return cls(1, 1, None, declared, 1.0, 0, 0.0, 0.0, True, False) if declared else None
        line = _line(said)
        capacity = said.capacity or None
        stale = overdue_s > 0
        if line is None and capacity is None:
            capacity = declared
        if line is None and capacity is None:
            return None
        if stale and declared:
            instances, batch = max(1, said.instances), max(1, said.max_batch)
            last = capacity or instances * batch / (line or (1.0, 1.0))[1]
            capacity = declared + (last - declared) * 0.5 ** (overdue_s / fade_s)
        # Bursts pass: what is not heard of any more, nobody waits behind.
        peak = 0.0 if stale else said.peak
        return cls(
            instances=max(1, said.instances),
            max_batch=max(1, said.max_batch),
            line=line,
            capacity=capacity,
            cv2=_cv2(said),
            room=said.room,
            in_flight=said.in_flight,
            peak=peak,
            stale=stale,
            seldom=not stale and said.answered < SELDOM,
        )


def member(site: str, known: Figures) -> Member:
    """The member; where only one of times and capacity is known, the other follows from it."""
    servers = known.instances * known.max_batch
    full = servers / known.capacity if known.capacity else (known.line or (SHORTEST_S, SHORTEST_S))[1]
    single = known.line[0] if known.line else full / known.max_batch
    return Member(
        site=site,
        instances=known.instances,
        single_s=max(SHORTEST_S, min(single, full)),
        max_batch=known.max_batch,
        full_s=max(SHORTEST_S, full),
        cv2=known.cv2,
        room=known.room,
        in_flight=known.in_flight,
        peak=known.peak,
        stale=known.stale,
        seldom=known.seldom,
    )


def _line(said: PoolSummary) -> tuple[float, float] | None:
    """Times of an execution of one request and of a full one: a straight line through those measured, by
    weighted least squares; with one size only, as if more rows took in proportion longer."""
    sizes = {rows: one for rows, one in said.by_batch.items() if one.mean_ms > 0 and one.executions > 0}
    most = max(1, said.max_batch)
    if not sizes:
        single = said.service_ms / 1e3 if said.service_ms else None
        return None if single is None else (single, single * most)
    if len(sizes) == 1:
        ((size, one),) = sizes.items()
        single = one.mean_ms / 1e3
        return single, single * max(1.0, most / size)
    rows = np.array(list(sizes), np.float64)
    times = np.array([one.mean_ms for one in sizes.values()]) / 1e3
    weights = np.array([one.executions for one in sizes.values()])
    mean_rows, mean_time = np.average(rows, weights=weights), np.average(times, weights=weights)
    spread = float(np.average((rows - mean_rows) ** 2, weights=weights))
    slope = max(0.0, float(np.average((rows - mean_rows) * (times - mean_time), weights=weights)) / spread)
    single = float(mean_time) + slope * (1 - float(mean_rows))
    single = max(single, 0.1 * float(times.min()), SHORTEST_S)
    return single, max(single, float(mean_time) + slope * (most - float(mean_rows)))


def _cv2(said: PoolSummary) -> float:
    by_size = [one for one in said.by_batch.values() if one.cv2 is not None and one.executions > 0]
    if by_size:
        executions = sum(one.executions for one in by_size)
        measured = sum((one.cv2 or 0.0) * one.executions for one in by_size) / executions
    else:
        measured = 1.0 if said.service_cv2 is None else said.service_cv2
    return min(MOST_CV2, measured)
