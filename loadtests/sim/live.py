"""The live routers' way: shares and thresholds from the code that tells Envoy, and what it makes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.sim.view import View
from serving.fleet import Class
from serving.router.admission import rooms
from serving.router.options import Choice, Option, Threshold
from serving.router.plan.thresholds import NEVER
from serving.router.shares import shares
from serving.router.view import FleetView

_ALWAYS_BY_SHARES = Threshold(stay_below=0, leave_at=NEVER)


@dataclass(frozen=True)
class _Told:
    """What a front door's files say of one pool: sites by priority, with their weights."""

    turn: int
    """Of the plan that they come from."""
    first: dict[int, float]
    """Those with a share."""
    only: int | None
    """The one site with a share, where there is just one."""
    last: frozenset[int]
    """The last resort."""
    room: int | None
    """Requests in flight here up to which one of this class stays; None: they are not counted."""
    threshold: Threshold
    choice: Choice | None
    """What leads first attempts instead, with other sites' names as numbers in `options`."""
    options: dict[int, Option]


def headend(view: View, class_: Class, sites: Sequence[int]) -> int | None:
    """By the plan, as `serving.router` configures Envoy: each request where it adds least to the time of all,
    or, where shares lead, to sites with a share by their shares, the others as a last resort.
    """
    planning = view.planning
    told: _Told | None = view.memory.get(class_)
    if told is None or told.turn != planning.turn:
        told = view.memory[class_] = _told(view, planning.informed(view.fleet), class_, planning.turn)
    return _lead(view, told, class_, sites)


def local_first(view: View, class_: Class, sites: Sequence[int]) -> int | None:
    """As `headend` where no plan was ever made: the own site, and what is too much there goes elsewhere."""
    told: _Told | None = view.memory.get(class_)
    if told is None:
        told = view.memory[class_] = _told(view, view.fleet, class_, 0)
    return _lead(view, told, class_, sites)


def _lead(view: View, told: _Told, class_: Class, sites: Sequence[int]) -> int | None:
    busy = view.server(view.home).in_flight
    if told.choice:
        return _chosen(view, told, told.choice, class_, sites, busy)
    if told.room is not None and busy >= told.room:
        return _elsewhere(view, sites)
    if told.only is not None and told.only in sites:
        return told.only
    if len(sites) < len(view.sites) and view.home in sites:
        # What did not find an answer elsewhere comes home.
        return view.home
    first = [site for site in sites if site in told.first]
    if view.home in first and len(first) > 1:
        if busy < told.threshold.stay_below:
            return view.home
        if busy >= told.threshold.leave_at:
            first.remove(view.home)
    last = [site for site in sites if site in told.last] if told.last else []
    # Load falls to the last resort in the measure in which sites with a share are missing.
    if not first or (last and view.random.random() * len(told.first) >= len(first)):
        return view.random.choice(last or sites)
    if len(first) == 1:
        return first[0]
    return view.random.choices(first, [told.first[site] for site in first])[0]


def _chosen(
    view: View, told: _Told, choice: Choice, class_: Class, sites: Sequence[int], busy: int
) -> int | None:
    """The script of `serving.router.admission`, and the tiers of the clusters that it chooses from."""
    others = [site for site in sites if site != view.home]
    if len(sites) < len(view.sites):
        # After the site that was chosen home, and then another one.
        return view.home if view.home in sites else view.random.choice(others)
    best = view.home
    soonest = _seconds(choice.here, busy)
    if told.room is not None and busy >= told.room:
        soonest = math.inf
    lot = view.random.random()
    for site in others:
        if option := told.options.get(site):
            lot -= option.looked
            if lot < 0:
                return site
            there = option.others + view.outstanding[site]
            takes = _seconds(option, there)
            if takes < soonest and there < option.rooms.get(class_, math.inf):
                best, soonest = site, takes
    return best if best != view.home or soonest < math.inf else _elsewhere(view, sites)


def _seconds(option: Option, busy: float) -> float:
    return option.base_s + option.each_s * max(0.0, busy + 1 - option.servers)


def _told(view: View, fleet: FleetView, class_: Class, turn: int) -> _Told:
    split = shares(fleet, view.pool, class_)
    numbers = {name: number for number, name in enumerate(view.names)}
    first = {numbers[name]: share for name, share in split.items() if share > 0}
    threshold = fleet.threshold(view.pool) or _ALWAYS_BY_SHARES
    choice = fleet.choice(view.pool)
    if 0 < (own := split.get(fleet.local.name, 0.0)) < 1:
        stays = threshold.kept(own)
        first = {site: share * (1 - stays) / (1 - own) for site, share in first.items()}
        first[numbers[fleet.local.name]] = stays
    return _Told(
        turn=turn,
        first=first,
        only=next(iter(first)) if len(first) == 1 else None,
        last=frozenset(numbers[name] for name, share in split.items() if not share),
        room=rooms(fleet, view.pool)[class_] if fleet.counts(view.pool) else None,
        threshold=threshold,
        choice=choice,
        options={numbers[name]: option for name, option in choice.elsewhere.items()} if choice else {},
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
