"""The summaries of a made-up fleet, second by second, as its sites would tell of it: for `hearing` to read.

The fleet is that of `plan_scale`; all three classes of requests have load.
"""

from __future__ import annotations

import sys
from typing import BinaryIO

import numpy as np

from loadtests.bench.hearing import FLEET, TICKS
from loadtests.bench.plan_scale import changed, made
from serving.fleet import Class
from serving.router.plan import Member, PoolProblem, Problem
from serving.router.telemetry.board import NoSeal
from serving.router.telemetry.message import Message, encode
from serving.router.telemetry.summary import MOST_LINKS, BatchTime, Link, PoolSummary, SiteSummary

_BOOT = "0" * 32
_CLASSES: dict[Class, float] = {"live": 0.2, "interactive": 0.5, "batch": 0.3}
"""Shares of a door's load."""


def write(sites: int, out: BinaryIO) -> None:
    """Each after its length: that of the first site as its own agent makes it, others' as messages."""
    problem = made(sites)
    door, *others = problem.sites
    for tick, now in enumerate([problem, *(changed(problem, seed) for seed in range(TICKS))]):
        _part(out, _told(now, door, tick).encode())
        for site in others:
            summary = NoSeal().sign(_told(now, site, tick))
            _part(out, encode(Message(fleet=FLEET, site=site, summaries=[summary])))


def _part(out: BinaryIO, data: bytes) -> None:
    out.write(len(data).to_bytes(4, "big") + data)


def _told(problem: Problem, site: str, sequence: int) -> str:
    """As a site's agent writes it."""
    here = problem.number[site]
    nearest = np.argsort(problem.rtt_s[here])[1 : MOST_LINKS + 1]
    summary = SiteSummary(
        fleet=FLEET,
        site=site,
        boot=_BOOT,
        sequence=sequence,
        pools={f"model.{pool.pool.name}": _pool(pool, pool.members[here], here) for pool in problem.pools},
        links={problem.sites[other]: Link(rtt_ms=1000 * problem.rtt_s[here, other]) for other in nearest},
    )
    return summary.model_dump_json(exclude_defaults=True)


def _pool(pool: PoolProblem, member: Member, door: int) -> PoolSummary:
    rate, alone_ms = float(pool.offered["interactive"][door]), 1000 * member.single_s
    return PoolSummary(
        kind="model",
        ready=True,
        version="a" * 64,
        offered={class_: share * rate for class_, share in _CLASSES.items()},
        answered=0.7 * member.capacity,
        in_flight=0.7 * member.instances,
        queue_ms=0.1 * alone_ms,
        service_ms=alone_ms,
        service_cv2=member.cv2,
        by_batch={1: BatchTime(executions=0.7 * member.capacity, mean_ms=alone_ms, cv2=member.cv2)},
        instances=member.instances,
        room=64,
        capacity=member.capacity,
        request_bytes=1e5,
        response_bytes=1e3,
    )


if __name__ == "__main__":
    write(int(sys.argv[1]), sys.stdout.buffer)
