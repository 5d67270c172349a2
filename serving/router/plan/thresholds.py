"""From how many requests in flight one more leaves its own site: a front door sees that at every moment.

Shares follow rates over seconds; queues come and go within them. A front door counts what is at its own site
at every moment, so it can do better than draw lots: a request that finds an idle server stays, unless another
site answers sooner all the same, one that would wait longer here than the way and the wait elsewhere take
leaves, and shares decide what lies between. That is for pools of which requests are not led one by one
(`choice`).

Bursts come and go faster than news of them travels, and by rates alone the plan does not see them: the most
that a site had in flight of late says how long one may come to wait there.
"""

from __future__ import annotations

import math

import numpy as np

from serving.router.options import Threshold
from serving.router.plan.planner import PoolPlan
from serving.router.plan.wait import idle

NEVER = 1_000_000
"""Stands for no number of requests."""
MOST_IDLE = 0.999
"""Nearly every request finds a server idle; those that do not have a share all the same."""


def threshold(planned: PoolPlan, door: int) -> Threshold | None:
    """The thresholds of one front door (by its place among the sites); None where its site is no member, or
    no other may answer. Nothing leaves for want of servers where only full lines would take it."""
    home, seconds = planned.distances.home[door], planned.distances.row(door)
    others = np.arange(len(seconds)) != home
    if home < 0 or not np.isfinite(seconds[others]).any():
        return None
    member = planned.problem.members[home]
    others &= planned.carries_more
    if member.stale or not others.any():
        return Threshold(member.instances, NEVER)
    # Rates are means over seconds; where a burst has just been, another may come.
    held_up = np.array([one.held_up_s for one in planned.problem.members])
    elsewhere = float((seconds + np.maximum(planned.response_s, held_up))[others].min())
    # With `n` in flight here, one more waits until all but the servers' share of them are through.
    waiting = max(0, math.ceil((elsewhere - member.single_s) * member.capacity))
    stays = member.single_s <= elsewhere
    # What leaves when no server is idle comes in bursts, which a thin line carries worse than servers do.
    counts = stays and not planned.has_thin_lines
    return Threshold(
        stay_below=member.instances if stays else 0,
        idle=min(MOST_IDLE, idle(member, float(planned.used[home]))) if counts else 0.0,
        leave_at=min(NEVER, member.instances + waiting),
    )
