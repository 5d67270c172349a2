"""One simulated request, and what all requests of one work at one door have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving.fleet import Class

if TYPE_CHECKING:
    from loadtests.sim.view import View


@dataclass(frozen=True, slots=True)
class Lane:
    """A work of the campaign at one door."""

    view: View
    number: int
    """Place of the work in the workload."""
    class_: Class
    input: str
    rows: int
    timeout: float
    price: float
    """What one request costs."""


class Request:
    """One request. Times are seconds since the campaign's start."""

    __slots__ = (
        "arrived",
        "attempts",
        "epoch",
        "intended",
        "is_guest",
        "lane",
        "met",
        "overhead",
        "site",
        "started",
        "tried",
        "view",
    )

    def __init__(self, lane: Lane, intended: float, epoch: int) -> None:
        self.lane, self.view, self.intended, self.epoch = lane, lane.view, intended, epoch
        self.attempts = 0
        self.site = -1
        """Where it was sent last."""
        self.is_guest = False
        """Whether it came there from another site's door."""
        self.tried: list[int] = []
        """Sites that did not answer it."""
        self.arrived = self.started = self.overhead = 0.0
        """At the server; when its execution began (kept by the first of a batch); beside the execution."""
        self.met = 0
        """Requests that were at the server when it arrived."""
