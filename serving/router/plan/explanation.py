"""Why a front door's shares are what they are, in words and in figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.errors import UsageError
from serving.fleet import CLASSES, Class
from serving.router.plan.choice import chooses
from serving.router.plan.planner import MOST_KNOWN, PoolPlan
from serving.router.plan.problem import PoolProblem, Problem
from serving.router.plan.settling import PROBED, Row
from serving.router.plan.thresholds import NEVER, threshold
from serving.router.view import Pool

FULL = 0.999
"""Share of its bound from which a site counts as full."""


@dataclass(frozen=True)
class SiteFacts:
    """One site as the plan sees it from one front door."""

    site: str
    share: Mapping[Class, float]
    """Of the door's load in each class."""
    capacity: float
    """Requests a second at most."""
    load: float
    """Requests a second that the plan sends it, from all doors."""
    way_ms: float | None
    """Round trip, transfer and what is added for placement and cost; None: it may not be asked from here."""
    response_ms: float | None
    """Wait and work there; None: it is overloaded, and it depends on how long that lasts."""
    price_ms: Mapping[Class, float]
    """What one more request there costs everybody together, beside the way."""
    why: str
    """In words."""


@dataclass(frozen=True)
class Explanation:
    """What `headend routes explain` shows."""

    door: str
    pool: str
    offered: Mapping[Class, float]
    """Requests a second that clients bring to the door."""
    sites: tuple[SiteFacts, ...]
    """The largest share first."""
    sentences: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def explain(
    problem: Problem,
    planned: PoolPlan | None,
    shares: Mapping[tuple[str, Pool, Class], Row],
    door: str,
    pool: Pool,
) -> Explanation:
    """Raises `UsageError` where door or pool are not known."""
    known = {each.pool: each for each in problem.pools}
    if door not in problem.number or pool not in known:
        what = f"site `{door}`" if door not in problem.number else f"pool `{pool.name}`"
        raise UsageError(f"the plan knows no {what}", hint=f"Sites: {', '.join(problem.sites)}.")
    declared, number = known[pool], problem.number[door]
    offered = {
        class_: float(rates[number]) for class_, rates in declared.offered.items() if rates[number] > 0
    }
    rows = {class_: shares.get((door, pool, class_), {}) for class_ in CLASSES}
    facts = _facts(planned, rows, door, number) if planned else ()
    sentences = [_placement(declared, door), *_general(declared, planned, offered, door, number)]
    sentences += [f"{fact.site}: {fact.why}" for fact in facts]
    return Explanation(door, f"{pool.kind}.{pool.name}", offered, facts, tuple(filter(None, sentences)))


def _placement(pool: PoolProblem, door: str) -> str:
    match pool.placement:
        case "local-only":
            where = f"Placement `local-only`: nothing leaves {door}."
        case "prefer-local":
            where = f"Placement `prefer-local`: what leaves {door} is what it cannot take."
        case "anywhere":
            where = "Placement `anywhere`: shares make all requests together wait least."
    if pool.balancing.residency:
        where += f" Only sites tagged {', '.join(pool.balancing.residency)} may answer."
    return where


def _general(
    pool: PoolProblem, planned: PoolPlan | None, offered: Mapping[Class, float], door: str, number: int
) -> list[str]:
    words = [
        f"Clients bring {rate:.3g} requests/s of class {class_} to {door}."
        for class_, rate in offered.items()
    ]
    if door in pool.unmeasured:
        words.append(f"Of {door} too little is known yet: it keeps its own requests, and gets no others.")
    if new := sorted(pool.untried - {door}):
        words.append(f"Of {', '.join(new)} nothing is measured yet: a few requests go there to find out.")
    if planned is None:
        return [*words, "Of no site enough is known for a plan: local first."]
    capacity = sum(member.capacity for member in pool.members)
    load = float(planned.load.sum())
    words.append(
        f"All sites hold {capacity:.3g} requests/s, and {load:.3g} are offered ({load / capacity:.0%})."
    )
    if not offered:
        words.append("No requests come here now; the shares are for the first that does.")
    full = [
        class_
        for class_, solved in planned.classes.items()
        if offered.get(class_, 0.0) > solved.most_away[number]
    ]
    words += [f"Class {class_}: the line from {door} to other sites is full." for class_ in full]
    return [*words, *_at_once(planned, door, number)]


def _at_once(planned: PoolPlan, door: str, number: int) -> Iterator[str]:
    """What the front door does by itself, from one request to the next."""
    if chooses(planned, number):
        yield (
            f"Each request goes where it adds least to the time of all: {door} counts what is in flight here "
            "and from here at each other site. Shares say what that should come to."
        )
        return
    limits = threshold(planned, number)
    if limits is None:
        return
    if not limits.stay_below:
        yield f"An idle server at {door} keeps no request: another site answers sooner all the same."
    rules = [
        (
            limits.stay_below > 0,
            f"with fewer than {limits.stay_below} in flight at {door} a request stays",
        ),
        (limits.leave_at < NEVER, f"with {limits.leave_at} or more one leaves"),
    ]
    yield f"Whatever the shares: {', '.join(rule for holds, rule in rules if holds)}."


def _facts(planned: PoolPlan, rows: Mapping[Class, Row], door: str, number: int) -> tuple[SiteFacts, ...]:
    load, response, ways = planned.load, planned.response_s, planned.distances.row(number)
    found = []
    for place, member in enumerate(planned.problem.members):
        way = float(ways[place])
        busy = float(load[place]) / member.capacity
        share = {class_: row.get(member.site, 0.0) for class_, row in rows.items() if row}
        found.append(
            SiteFacts(
                site=member.site,
                share=share,
                capacity=member.capacity,
                load=float(load[place]),
                way_ms=1e3 * way if np.isfinite(way) else None,
                response_ms=1e3 * float(response[place]) if busy < MOST_KNOWN else None,
                price_ms={name: 1e3 * float(solved.price[place]) for name, solved in planned.classes.items()},
                why=_why(planned, place, max(share.values(), default=0.0), busy, way, member.site == door),
            )
        )
    return tuple(sorted(found, key=lambda fact: (-max(fact.share.values(), default=0.0), fact.site)))


def _why(planned: PoolPlan, place: int, share: float, busy: float, way: float, is_home: bool) -> str:
    member = planned.problem.members[place]
    if not np.isfinite(way):
        return "may not be asked from here, by placement"
    words = ["here" if is_home else f"{1e3 * way:.3g} ms away"]
    words.append(f"{busy:.0%} of {member.capacity:.3g} requests/s busy")
    if busy < MOST_KNOWN:
        words.append(f"{1e3 * float(planned.response_s[place]):.3g} ms from arrival to answer")
    bound = max(planned.problem.balancing.bound(class_) for class_ in CLASSES)
    if busy > bound / FULL:
        words.append("overloaded")
    elif busy >= FULL * bound:
        words.append("full: its headroom binds")
    if not planned.carries_more[place]:
        words.append("its line carries no more from other sites")
    if member.stale:
        words.append("stale: not heard of lately, so it gets no more than it had")
    if member.seldom:
        words.append("answers less than one a second, so that what is known of it may be chance")
    if 0 < share <= 2 * PROBED and not is_home:
        words.append("a small share only, to keep the way known")
    return f"{share:.1%}: " + ", ".join(words)
