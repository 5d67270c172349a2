"""Summaries and boards for tests."""

from __future__ import annotations

import json
from typing import Any

from serving.router.telemetry.board import Board, NoSeal
from serving.router.telemetry.message import Signed
from serving.router.telemetry.summary import BatchTime, Link, PoolSummary, SiteSummary

BOOT = "0123456789abcdef" * 2


class Clock:
    """A monotonic clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def summary(site: str = "b", sequence: int = 1, boot: str = BOOT, **changes: Any) -> SiteSummary:
    pool = PoolSummary(
        kind="model",
        ready=True,
        offered={"live": 3.0},
        by_batch={4: BatchTime(executions=2.0, mean_ms=8.0, cv2=0.1)},
    )
    whole = {"pools": {"model.echo": pool}, "links": {"a": Link(rtt_ms=12.5)}, **changes}
    return SiteSummary(fleet="two", site=site, boot=boot, sequence=sequence, **whole)


def signed(*arguments: Any, **changes: Any) -> Signed:
    return Signed(summary=summary(*arguments, **changes).model_dump_json())


def forged(**changes: Any) -> Signed:
    """A summary with other contents than `SiteSummary` would let through."""
    return Signed(summary=json.dumps(json.loads(summary().model_dump_json()) | changes))


def board(clock: Clock, site: str = "a") -> Board:
    return Board("two", site, ["a", "b", "c"], NoSeal(), clock)
