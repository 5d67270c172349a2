"""Envoy's own policies that weigh by what servers report of themselves (ORCA), with Envoy's defaults.

Every server is an endpoint, and its reports are taken to be always there and exact, as if each answer brought
one: Triton itself sends none. What they say is the mean over the last second.
(https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/upstream/load_balancing/load_balancers and
…/load_aware_locality; extensions `client_side_weighted_round_robin` and `load_aware_locality`.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from loadtests.sim.view import View
from serving.fleet import Class

EVERY_S = 1.0
"""`weight_update_period`."""
BLACKOUT_S = 10.0
"""`blackout_period`: reports of a new endpoint do not count for so long."""
BALANCED = 0.1
"""`utilization_variance_threshold`: as much busier than the others the own site may be and keep all."""
SMOOTHED = 1 - math.exp(-EVERY_S / 5.0)
"""`smoothing_time_constant` of 5 s."""
PROBED = 0.03
"""`remote_probe_fraction`."""


@dataclass
class _Reports:
    """What one door has been told of one pool's sites until now."""

    at: float
    served: dict[int, int]
    computed_s: dict[int, float]
    weights: dict[int, float]
    smoothed: dict[int, float] = field(default_factory=dict)


def weighted_round_robin(view: View, class_: Class, sites: Sequence[int]) -> int:
    """In proportion to what sites answer over how busy they are (`client_side_weighted_round_robin`)."""
    reports, due = _reports(view, "wrr")
    if due:
        rates, busy = due
        if view.now >= BLACKOUT_S:
            found = {site: rates[site] / busy[site] for site in rates if rates[site] and busy[site]}
            # One without a valid report gets the median of the others.
            middle = sorted(found.values())[len(found) // 2] if found else 1.0
            reports.weights = {site: found.get(site, middle) for site in rates}
    return _drawn(view, reports.weights, sites)


def load_aware_locality(view: View, class_: Class, sites: Sequence[int]) -> int:
    """At home while that is about as busy as the others, else by headroom (`load_aware_locality`)."""
    reports, due = _reports(view, "locality")
    if due:
        for site, busy in due[1].items():
            before = reports.smoothed.get(site, busy)
            reports.smoothed[site] = before + SMOOTHED * (busy - before)
        reports.weights = _by_headroom(view, reports.smoothed)
    return _drawn(view, reports.weights, sites)


def _by_headroom(view: View, busy: dict[int, float]) -> dict[int, float]:
    hosts = {site: view.server(site).instances for site in busy}
    weights = {site: hosts[site] * (1 - busy[site]) for site in busy}
    home, others = view.home, [site for site in busy if site != view.home]
    remote = sum(hosts[site] for site in others)
    if view.home != view.door.site or not others:
        return weights
    if busy[home] <= sum(busy[site] * hosts[site] for site in others) / remote + BALANCED:
        weights = {site: float(site == home) for site in busy}
    total = sum(weights.values())
    missing = PROBED * total - sum(weights[site] for site in others)
    if missing > 0:
        taken = min(missing, weights[home])
        weights[home] -= taken
        for site in others:
            weights[site] += taken * hosts[site] / remote
    return weights


def _reports(view: View, name: str) -> tuple[_Reports, tuple[dict[int, float], dict[int, float]] | None]:
    """What is known, and where a second is over the rates and the busy share of it, by site."""
    now, servers = view.now, view.servers
    known: _Reports | None = view.memory.get(name)
    if known is None:
        hosts = {site: float(server.instances) for site, server in servers.items()}
        if name == "locality":
            hosts = _by_headroom(view, dict.fromkeys(servers, 0.0))
        known = view.memory[name] = _Reports(now, *_counters(view), hosts)
    if now - known.at < EVERY_S:
        return known, None
    served, computed = _counters(view)
    seconds = now - known.at
    rates = {site: (served[site] - known.served[site]) / seconds for site in servers}
    busy = {
        site: min(1.0, (computed[site] - known.computed_s[site]) / seconds / server.instances)
        for site, server in servers.items()
    }
    known.at, known.served, known.computed_s = now, served, computed
    return known, (rates, busy)


def _counters(view: View) -> tuple[dict[int, int], dict[int, float]]:
    servers = view.servers
    return (
        {site: server.served for site, server in servers.items()},
        {site: server.computed_s for site, server in servers.items()},
    )


def _drawn(view: View, weights: dict[int, float], sites: Sequence[int]) -> int:
    summed = list(accumulate(weights[site] for site in sites))
    return view.random.choices(sites, cum_weights=summed)[0] if summed[-1] else sites[0]
