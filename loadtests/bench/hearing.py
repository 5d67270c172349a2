"""What an agent takes that hears a whole large fleet: time for each summary, and time and memory to plan.

The made-up fleet of `plan_scale`, all three classes of whose requests have load, as its sites would tell of
it: every summary is decoded, checked and put up as if it had come from a site, and the agent of one site
plans from that. Nothing goes through a network, and the fleet has no CA, so no signature is checked.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import numpy as np

from loadtests.bench.plan_scale import TICKS, changed, made
from serving.fleet import Class, Fleet
from serving.router.agent.planning import Planner
from serving.router.plan import Member, PoolProblem, Problem
from serving.router.telemetry.board import Board, NoSeal
from serving.router.telemetry.message import MOST_ANSWER_BYTES, Message, decode, encode
from serving.router.telemetry.summary import MOST_LINKS, BatchTime, Link, PoolSummary, SiteSummary

_FLEET = "bench"
_BOOT = "0" * 32
_CLASSES: dict[Class, float] = {"live": 0.2, "interactive": 0.5, "batch": 0.3}
"""Shares of a door's load."""


def measure(sites: int) -> dict[str, float]:
    """Processor milliseconds for a summary, processor seconds of the first plan and of one that follows, and
    the most MiB that this process has had."""
    problem = made(sites)
    fleet = _fleet(problem)
    door, *others = problem.sites
    board = Board(_FLEET, door, fleet.sites, NoSeal(), time.monotonic)
    planner = Planner(fleet, door, {})
    hearing, planning = [], []
    for tick, now in enumerate([problem, *(changed(problem, seed) for seed in range(TICKS))]):
        told = {site: _told(now, site, tick) for site in now.sites}
        board.publish(SiteSummary.model_validate_json(told[door]))
        messages = [
            encode(Message(fleet=_FLEET, site=site, summaries=[NoSeal().sign(told[site])])) for site in others
        ]
        begin = time.process_time()
        for site, message in zip(others, messages, strict=True):
            if not board.take(decode(message, MOST_ANSWER_BYTES).summaries[0], site):
                raise RuntimeError(f"the summary of {site} was refused: {dict(board.refused)}")
        hearing.append((time.process_time() - begin) / len(others))
        begin = time.process_time()
        planner.next(board.observed({}))
        planning.append(time.process_time() - begin)
    return {
        "hear_ms": 1000 * float(np.mean(hearing)),
        "first_s": planning[0],
        "next_s": float(np.mean(planning[1:])),
        "process_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _fleet(problem: Problem) -> Fleet:
    addresses = {
        site: f"127.{1 + number // 250}.{number % 250}.1:8080" for site, number in problem.number.items()
    }
    return Fleet.model_validate(
        {
            "fleet": _FLEET,
            "models": {pool.pool.name: {} for pool in problem.pools},
            "sites": {site: {"front_door": address} for site, address in addresses.items()},
        }
    )


def _told(problem: Problem, site: str, sequence: int) -> str:
    """As a site's agent writes it."""
    here = problem.number[site]
    nearest = np.argsort(problem.rtt_s[here])[1 : MOST_LINKS + 1]
    summary = SiteSummary(
        fleet=_FLEET,
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
    print(json.dumps(measure(int(sys.argv[1]))))
