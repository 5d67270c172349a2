"""Policies to compare the live one with, and their names. Each is a small function: see `view.Policy`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from loadtests.sim.live import headend, local_first
from loadtests.sim.orca import load_aware_locality, weighted_round_robin
from loadtests.sim.prequal import prequal
from loadtests.sim.slate_like import slate_like
from loadtests.sim.view import Policy, View
from serving.fleet import Class


def local_only(view: View, class_: Class, sites: Sequence[int]) -> int | None:
    """The door's own site; where that does not serve the pool, always the nearest that does."""
    return view.home if view.home in sites else None


def round_robin(view: View, class_: Class, sites: Sequence[int]) -> int:
    """One after the other."""
    turn: int = view.memory.get("turn", -1) + 1
    view.memory["turn"] = turn
    return sites[turn % len(sites)]


def least_request(view: View, class_: Class, sites: Sequence[int]) -> int:
    """Where this door itself has the fewest requests in flight; of equals the nearest."""
    return min(sites, key=view.outstanding.__getitem__)


def waterfall(view: View, class_: Class, sites: Sequence[int]) -> int:
    """The own site until its room is taken, then the nearest with room, as far as telemetry says."""
    return next((site for site in sites if view.in_flight(site) < view.server(site).room), sites[0])


def static_shares(view: View, class_: Class, sites: Sequence[int]) -> int:
    """At random, in proportion to what the sites can do at most."""
    known: tuple[Sequence[int], list[float]] | None = view.memory.get("weights")
    if known is None or known[0] is not sites:
        summed = list(accumulate(view.server(site).capacity for site in sites))
        known = view.memory["weights"] = (sites, summed)
    return view.random.choices(sites, cum_weights=known[1])[0]


def clairvoyant(view: View, class_: Class, sites: Sequence[int]) -> int:
    """Join the shortest expected response, knowing every queue and line as it is at this moment.

    Nothing that must hear of queues over a network can do this; what it gives is the yardstick. Not a strict
    bound: it decides for each request alone, and does not know how long executions will turn out.
    """

    def expected(site: int) -> float:
        server = view.server(site)
        return view.way_s(site) + server.expected_wait() + server.mean_s

    return min(sites, key=expected)


BOUND = "clairvoyant"
POLICIES: dict[str, Policy] = {
    "headend": headend,
    "local-first": local_first,
    "local-only": local_only,
    "round-robin": round_robin,
    "least-request": least_request,
    "waterfall": waterfall,
    "static-shares": static_shares,
    "weighted-round-robin": weighted_round_robin,
    "load-aware-locality": load_aware_locality,
    "prequal": prequal,
    "slate-like": slate_like,
    BOUND: clairvoyant,
}
