"""The live routers' way: shares from the code that writes Envoy's weights, and what Envoy makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.sim.view import View
from serving.fleet import Class
from serving.router.admission import rooms
from serving.router.shares import shares


@dataclass(frozen=True)
class _Plan:
    """What a front door's endpoint file says of one pool: sites by priority, with their weights."""

    first: dict[int, float]
    only: int | None
    """The one site with a share, where there is just one."""
    last: frozenset[int]
    """The last resort."""
    room: int | None
    """Requests in flight here up to which one of this class stays; None: they are not counted."""


def headend(view: View, class_: Class, sites: Sequence[int]) -> int | None:
    """Sites with a share by their shares, the others as a last resort; what is too much here goes elsewhere.

    As `serving.router.clusters` and `serving.router.admission` configure Envoy.
    """
    plan: _Plan | None = view.memory.get(class_)
    if plan is None:
        plan = view.memory[class_] = _plan(view, class_)
    if plan.room is not None and view.server(view.home).in_flight >= plan.room:
        return _elsewhere(view, sites)
    if plan.only is not None and plan.only in sites:
        return plan.only
    first = [site for site in sites if site in plan.first]
    last = [site for site in sites if site in plan.last] if plan.last else []
    # Load falls to the last resort in the measure in which sites with a share are missing.
    if last and view.random.random() * len(plan.first) >= len(first):
        return view.random.choice(last)
    return view.random.choices(first, [plan.first[site] for site in first])[0]


def _plan(view: View, class_: Class) -> _Plan:
    split = shares(view.fleet, view.pool, class_)
    numbers = {name: number for number, name in enumerate(view.names)}
    first = {numbers[name]: share for name, share in split.items() if share > 0}
    return _Plan(
        first=first,
        only=next(iter(first)) if len(first) == 1 else None,
        last=frozenset(numbers[name] for name, share in split.items() if not share),
        room=rooms(view.fleet, view.pool)[class_] if view.fleet.counts(view.pool) else None,
    )


def _elsewhere(view: View, sites: Sequence[int]) -> int | None:
    """Envoy's least-request balancing: of two at random, the one with fewer requests from here."""
    if not len(sites) - (view.home in sites):
        return None
    a, b = (_other(view, sites) for _ in range(2))
    return a if view.outstanding[a] <= view.outstanding[b] else b


def _other(view: View, sites: Sequence[int]) -> int:
    while (site := view.random.choice(sites)) == view.home:
        pass
    return site
