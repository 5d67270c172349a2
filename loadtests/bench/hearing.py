"""What an agent takes that hears a whole large fleet: time for each summary, and time and memory to plan.

Every summary of a made-up fleet is decoded, checked and put up as if it had come from a site, and the agent
of one site plans from that. They come from `telling`, a process of its own: its memory is not an agent's.
Nothing goes through a network, and the fleet has no CA, so no signature is checked.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

# Not only what plans: all that an agent has loaded is part of what it takes.
import serving.router.agent.__main__  # noqa: F401
from serving.fleet import Fleet
from serving.router.agent.planning import Planner
from serving.router.telemetry.board import Board, NoSeal
from serving.router.telemetry.message import MOST_ANSWER_BYTES, decode
from serving.router.telemetry.summary import SiteSummary

FLEET = "bench"
POOLS = 20
TICKS = 3
"""Plans after the first, of which the mean is told."""


def names(kind: str, digits: int, count: int) -> tuple[str, ...]:
    """Of sites or pools, in order."""
    return tuple(f"{kind}{number:0{digits}}" for number in range(count))


def measure(sites: int, told: BinaryIO) -> dict[str, float]:
    """Processor milliseconds for a summary, processor seconds of the first plan and of one that follows, and
    the most MiB that this process has had. `told`: what `telling` writes."""
    fleet, summaries = _fleet(sites), _parts(told)
    door, *others = sorted(fleet.sites)
    board = Board(FLEET, door, fleet.sites, NoSeal(), time.monotonic)
    planner = Planner(fleet, door, {})
    hearing, planning = [], []
    for _ in range(1 + TICKS):
        board.publish(SiteSummary.model_validate_json(next(summaries)))
        took = 0.0
        for site in others:
            message = next(summaries)
            begin = time.process_time()
            if not board.take(decode(message, MOST_ANSWER_BYTES).summaries[0], site):
                raise RuntimeError(f"the summary of {site} was refused: {dict(board.refused)}")
            took += time.process_time() - begin
        hearing.append(took / len(others))
        begin = time.process_time()
        planner.next(board.observed({}))
        planning.append(time.process_time() - begin)
    return {
        "hear_ms": 1000 * float(np.mean(hearing)),
        "first_s": planning[0],
        "next_s": float(np.mean(planning[1:])),
        "process_mib": _most_mib(),
    }


def _parts(told: BinaryIO) -> Iterator[bytes]:
    """Each after its length, four bytes."""
    while size := told.read(4):
        yield told.read(int.from_bytes(size, "big"))


def _fleet(sites: int) -> Fleet:
    return Fleet.model_validate(
        {
            "fleet": FLEET,
            "models": {pool: {} for pool in names("p", 2, POOLS)},
            "sites": {
                site: {"front_door": f"127.{1 + number // 250}.{number % 250}.1:8080"}
                for number, site in enumerate(names("s", 4, sites))
            },
        }
    )


def _most_mib() -> float:
    """`getrusage` would tell of the process that has started this one, were it larger."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise RuntimeError("the kernel does not tell this process's memory")
    return int(found[1]) / 1024


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), sys.stdin.buffer)))
