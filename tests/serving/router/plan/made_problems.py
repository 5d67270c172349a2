"""Small fleets for the plan's tests."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.fleet import Class
from serving.fleet.balancing import Balancing
from serving.router.plan import Member, PoolProblem, Problem
from serving.router.view import Pool

CLS = Pool("model", "cls")


def problem(
    members: Sequence[Member],
    offered: Mapping[Class, Mapping[str, float]],
    *,
    rtt_ms: float = 10.0,
    rtts_ms: Mapping[tuple[str, str], float] | None = None,
    doors: Sequence[str] = (),
    **more: Any,
) -> Problem:
    """One pool; doors are the members' sites and `doors`, a round trip of `rtt_ms` apart."""
    sites = tuple(sorted({*doors, *(member.site for member in members)}))
    rtt = np.full((len(sites), len(sites)), rtt_ms / 1e3)
    for (a, b), ms in (rtts_ms or {}).items():
        rtt[sites.index(a), sites.index(b)] = rtt[sites.index(b), sites.index(a)] = ms / 1e3
    np.fill_diagonal(rtt, 0)
    loads = {
        class_: np.array([by_door.get(site, 0.0) for site in sites]) for class_, by_door in offered.items()
    }
    pool = PoolProblem(
        pool=CLS,
        members=tuple(sorted(members, key=lambda member: member.site)),
        offered=loads,
        balancing=more.pop("balancing", Balancing()),
        **{
            name: more.pop(name)
            for name in ("request_bytes", "response_bytes", "unmeasured", "untried")
            if name in more
        },
    )
    return Problem(sites, rtt, more.pop("s_per_byte", np.zeros_like(rtt)), (pool,), **more)
