"""What a plan is computed from: plain data, the same at every front door that has heard the same.

Sites are in order of their names, and everything about a pair of sites is a matrix with a row for each front
door and a column for each site that may answer. A front door is named like its site.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from serving.fleet import Class
from serving.fleet.balancing import Balancing, Placement
from serving.router.view import Pool

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Member:
    """One site's part in a pool: a queue in front of servers that work on several requests together."""

    site: str
    instances: int
    """Executions at the same time."""
    single_s: float
    """Mean time of an execution of one request alone."""
    max_batch: int = 1
    """Most requests in one execution."""
    full_s: float = 0.0
    """Mean time of a full execution; 0: as one alone. In between it grows by a straight line."""
    cv2: float = 1.0
    """Squared coefficient of variation of execution times."""
    room: int = 0
    """Requests that it takes at a time, waiting ones included; 0: nobody says."""
    in_flight: float = 0.0
    """Requests that it has, waiting ones included; mean over the last seconds."""
    peak: float = 0.0
    """Most requests that it had at any look of the last seconds, waiting ones included."""
    stale: bool = False
    """Whether it has not been heard of for a while: it is asked no more than it was before."""
    seldom: bool = False
    """Whether it answers so little that what is known of it may be chance, or long ago."""

    @cached_property
    def full(self) -> float:
        """Mean time of a full execution, seconds."""
        return max(self.full_s, self.single_s)

    @cached_property
    def held_up_s(self) -> float:
        """Mean seconds that a request takes which finds as many there as the most of late."""
        return self.single_s + max(0.0, self.peak + 1 - self.instances * self.max_batch) / self.capacity

    @cached_property
    def capacity(self) -> float:
        """Requests a second at most."""
        return self.instances * self.max_batch / self.full


@dataclass(frozen=True)
class PoolProblem:
    """One pool: its sites, and what clients bring to each front door."""

    pool: Pool
    members: tuple[Member, ...]
    """Sites that answer it now and of which enough is known, in order of their names."""
    offered: Mapping[Class, Floats]
    """Requests a second that clients bring, by front door."""
    request_bytes: float = 0.0
    response_bytes: float = 0.0
    balancing: Balancing = field(default_factory=Balancing)
    unmeasured: frozenset[str] = frozenset()
    """Sites that serve the pool, of which too little is known to send others' requests there: they keep their
    own, local first."""
    untried: frozenset[str] = frozenset()
    """Those of them that say they are ready, and have answered nothing yet that could be measured."""

    @property
    def placement(self) -> Placement:
        """Where its requests may go."""
        return self.balancing.placement


@dataclass(frozen=True)
class Problem:
    """The fleet at one moment."""

    sites: tuple[str, ...]
    """All of them, in order of their names."""
    rtt_s: Floats
    """Round trips, seconds, from each front door (row) to each site (column); 0 on the diagonal."""
    s_per_byte: Floats
    """Likewise, time that one byte takes on the way: 1 over the bandwidth."""
    pools: tuple[PoolProblem, ...]
    """In order of kind and name."""
    price_s_per_byte: Floats | None = None
    """What a byte on the way costs in money, as seconds of waiting that are worth as much; None: nothing."""
    uplink_bytes_per_s: Floats | None = None
    """What each site's own way to all others may carry, by site; infinite where nothing is declared."""

    @cached_property
    def number(self) -> dict[str, int]:
        """Each site's place in `sites`."""
        return {name: number for number, name in enumerate(self.sites)}
