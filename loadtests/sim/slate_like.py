"""A global optimiser in the manner of SLATE: the shares of `loadtests.slate`, computed once a second."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from loadtests import arrivals, slate
from loadtests.sim.times import cv2
from loadtests.sim.view import View
from serving.fleet import Class

EVERY_S = 1.0


class _Row(NamedTuple):
    turn: int
    share: dict[int, float]


def slate_like(view: View, class_: Class, sites: Sequence[int]) -> int:
    """At random by the optimiser's shares; the nearest where it gave none to the sites that are left.

    It is told the rates that clients have on average, without the noise of measuring them, as late as
    telemetry is, and what servers take as declared: more than SLATE itself knows.
    """
    turn = int(view.now / EVERY_S)
    row: _Row | None = view.memory.get("row")
    if row is None or row.turn != turn:
        row = view.memory["row"] = _Row(turn, _shares(view, turn * EVERY_S))
    weights = list(accumulate(row.share[site] for site in sites))
    return view.random.choices(sites, cum_weights=weights)[0] if weights[-1] else sites[0]


def _shares(view: View, now: float) -> dict[int, float]:
    """Of this door, by site. The same problem is solved once for all doors and times."""
    sim, pool = view.sim, view.pool.name
    seen_at = max(0.0, now - sim.topology.telemetry_s)
    offered = arrivals.offered(sim.campaign, sim.names, pool, seen_at)
    columns = sorted(view.servers)
    if not sum(offered):
        return {site: float(site == view.home) for site in columns}
    solved = sim.memory.setdefault("slate", {})
    key = (pool, *offered)
    if key not in solved:
        solved[key] = _solve(view, np.array(offered), columns)
    return dict(zip(columns, solved[key][view.door.site].tolist(), strict=True))


def _solve(view: View, offered: slate.Floats, columns: Sequence[int]) -> slate.Floats:
    topology, names = view.sim.topology, view.sim.names
    declared = topology.pools[view.pool.name]
    cv = cv2(declared.service[min(declared.service)]) ** 0.5
    network = topology.network
    rtt = np.array([[network.rtt_s(door, names[site]) for site in columns] for door in names])
    servers = [view.server(site) for site in columns]
    queues = [slate.Queue(each.instances, each.mean_s, cv, each.capacity) for each in servers]
    return slate.shares(offered, rtt, queues)
