"""What one front door weighs for each request: how soon each site would answer, and whom it keeps waiting.

The plan knows rates over seconds, a front door what is under way at every moment: here, and from here at each
other site. What it does not see is what others have sent there. That it takes to be what it was on average of
late, as the sites themselves say it: newer figures would help little, as what changes soon is mostly its own.

A request goes where it adds least to the time that all take. It waits `n / capacity` for the `n` that wait
before it; and it keeps those waiting who come after it, until the line is empty again. With a share `u` of
the servers' time taken by others that is `n / (capacity (1 - u))` together: the relative value of a place in
a queue whose arrivals are split by fixed shares, so that one step of policy iteration from the plan's shares
leads here (K. R. Krishnan, "Joining the right queue: a state-dependent decision rule", IEEE Transactions on
Automatic Control 35, 1990).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import replace

import numpy as np

from serving.fleet import CLASSES, Class, waiting
from serving.fleet.balancing import HEADROOM
from serving.router.options import MOST_OPTIONS, Choice, Option
from serving.router.plan.planner import PoolPlan
from serving.router.plan.problem import Member
from serving.router.plan.settling import LOOKED_AGAIN, PROBED, TRIED

MOST_USED = 0.6
"""Near its capacity a site's line is never empty, and who comes after whom is no matter of means."""
_NEVER_S = 1e6
"""Of a site of which nothing is measured: it is looked at, and not chosen."""


def chooses(planned: PoolPlan, number: int) -> bool:
    """Whether the door with this place among the sites leads requests one by one. Shares have to see to it
    where there are too many sites, where lines may get full, and where classes may fill less of a site than
    they would by default."""
    problem = planned.problem
    others = len(problem.members) + len(problem.unmeasured) - 1
    return bool(
        planned.distances.home[number] >= 0
        and 0 < others <= MOST_OPTIONS
        and not planned.has_thin_lines
        and problem.balancing.headroom == HEADROOM
    )


def choice(planned: PoolPlan, door: str, number: int, under_way: Mapping[str, float]) -> Choice | None:
    """What `door` (`number`: its place among the sites) chooses from; None: shares lead its requests.

    `under_way`: how many requests this front door has had at each other site that it can reach, on average
    over the same time as `Member.in_flight`.
    """
    if not chooses(planned, number):
        return None
    home, problem = int(planned.distances.home[number]), planned.problem
    seconds = planned.distances.row(number)
    chosen = {
        member.site: place
        for place, member in enumerate(problem.members)
        if place != home and member.site in under_way and np.isfinite(seconds[place])
    }
    elsewhere = {
        site: _option(planned, place, float(seconds[place]), under_way[site], PROBED / len(chosen))
        for site, place in chosen.items()
    }
    here = _option(planned, home)
    seldom = {member.site for member in problem.members if member.seldom}
    here, elsewhere = _looked_again(door, here, elsewhere, seldom)
    if np.isfinite(planned.distances.added_s):
        untried = sorted((problem.untried - {door}) & set(under_way))
        elsewhere |= {site: Option(_NEVER_S, 1, 0.0, looked=TRIED / len(untried)) for site in untried}
    return Choice(here, elsewhere) if elsewhere else None


def _looked_again(
    door: str, here: Option, elsewhere: Mapping[str, Option], seldom: Set[str]
) -> tuple[Option, dict[str, Option]]:
    """The options, those of `seldom` asked a little whatever else."""
    options = {door: here, **elsewhere}
    least_s = min(option.base_s for option in options.values())
    again = seldom & options.keys()
    for site in again:
        option = options[site]
        dear = max(1.0, (option.base_s - least_s) / least_s)
        looked = LOOKED_AGAIN / len(again) / dear
        options[site] = replace(option, looked=max(option.looked, looked))
    return options.pop(door), options


def _option(
    planned: PoolPlan, place: int, way_s: float = 0.0, under_way: float = 0.0, looked: float = 0.0
) -> Option:
    member = planned.problem.members[place]
    used = min(MOST_USED, float(planned.used[place]))
    others = max(0.0, member.in_flight - under_way)
    return Option(
        base_s=way_s + member.single_s,
        servers=member.instances,
        each_s=1 / (member.capacity * (1 - used)),
        others=others,
        looked=looked,
        rooms=_rooms(member, others),
    )


def _rooms(member: Member, others: float) -> dict[Class, int]:
    """As the site's front door will count (`admission.rooms`), but for how patient its requests are.

    For live requests less what the number of others usually is above its mean (as Poisson's). Whoever is
    refused there has lost the way, and maybe the place at home, which live requests find when all is full.
    """
    if not member.room:
        return {}
    at_once = min(member.room, member.instances * member.max_batch)
    rooms = {class_: at_once + waiting(class_, member.room - at_once) for class_ in CLASSES}
    rooms["live"] -= math.sqrt(others)
    return {class_: max(0, math.floor(room)) for class_, room in rooms.items()}
