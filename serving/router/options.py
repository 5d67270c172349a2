"""What a front door leads a request by as it comes: pure data, which a plan says and Envoy's scripts read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from serving.fleet import Class

MOST_OPTIONS = 16
"""Other sites of a pool up to which a front door weighs each of them for each request. Of more, it would be
told too late how busy each one is, and would probe them all."""


@dataclass(frozen=True)
class Option:
    """One site that may answer a request, as a front door weighs it when the request comes: with `n` there,
    its answer takes `base_s`, and `each_s` for every one that waits before it or that it keeps waiting."""

    base_s: float
    """The way there and back, and the work."""
    servers: int
    """Requests that are worked on at a time."""
    each_s: float
    """For each that waits."""
    others: float = 0.0
    """Requests that are there and did not come through this front door: these it counts by itself."""
    looked: float = 0.0
    """Share of requests that go there whatever else."""
    rooms: Mapping[Class, int] = field(default_factory=dict)
    """Requests there from which on one more of a class had better not come; a class that is not named may."""


@dataclass(frozen=True)
class Choice:
    """What a front door chooses from, request by request."""

    here: Option
    """The local site; all that is under way there is counted."""
    elsewhere: Mapping[str, Option]
    """Others, by name."""


@dataclass(frozen=True)
class Threshold:
    """When a request leaves this site, by how many are in flight here; in between, shares decide."""

    stay_below: int
    """With fewer, it stays: a server is idle, and no other site would answer sooner."""
    leave_at: int
    """With so many or more, it leaves: it would wait longer here than the way and the wait elsewhere take."""
    idle: float = 0.0
    """The share of requests that stay because a server is idle, by the plan; below 1."""

    def kept(self, share: float) -> float:
        """How much stays of what finds no server idle, for `share` of all to stay."""
        return max(0.0, (share - self.idle) / (1 - self.idle))
