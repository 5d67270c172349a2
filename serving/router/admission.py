"""Which requests are answered here, which at another site, and which are refused: Envoy cluster specifiers.

A cluster specifier chooses the cluster of each request as it comes. Its script reads how many requests are in
flight here, over both protocols, for clients and for other sites. A request leaves once its class's room is
taken, when it would come after its deadline here, or as the plan says; where no other site may be asked, it
is refused. What another site has led here by a plan that is seconds old is turned back at its first attempt
while so much waits that it had better go home (`plan.thresholds`), and is taken wherever there is room from
then on. Two requests that come at the very same moment may both find the last place free: the room is then
exceeded by one.
(https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/cluster_specifier/lua)

What changes while Envoy runs, rooms and shares, is in a small file for each pool, which the script reads
again once a second: Envoy hands such a script nothing else, and new routes every second would cost more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

from serving.fleet import CLASSES, QUEUE_SHARE, Class
from serving.router import scripts
from serving.router.clusters import away_cluster, home_cluster, local_cluster, protocols
from serving.router.shares import kept
from serving.router.view import FleetView, Pool
from serving.router.xds import Json, extension

_DIRECTORY = "admission"


def specifiers(view: FleetView, out: Path, *, peer: bool) -> list[Json]:
    """Envoy's `ClusterSpecifierPlugin` of every pool that is answered here, named like the cluster it guards.

    `peer`: only those for what has come from another site, and goes no further.
    """
    here = [(pool, protocol) for pool in view.pools if guards(view, pool) for protocol in protocols(pool)]
    local = [_specifier(view, out, pool, local_cluster(pool, each), away=False) for pool, each in here]
    if peer:
        return local
    return [
        *local,
        *(
            _specifier(view, out, pool, home_cluster(pool, each), away=len(view.sites_of(pool)) > 1)
            for pool, each in here
        ),
    ]


def guards(view: FleetView, pool: Pool) -> bool:
    """Whether requests to `pool` are led by a specifier."""
    return view.local.answers(pool) and pool.kind != "server"


def rooms(view: FleetView, pool: Pool) -> dict[Class, int]:
    """Requests of `pool` that may be in flight here when one more of a class is taken, that one included."""
    room = view.rooms[pool.key]
    queue = float(room.queue)
    if room.patience_ms is not None and (pace := view.pace.get(pool.key)):
        queue = min(queue, room.patience_ms / pace.per_request_ms)
    most = view.limits.concurrency
    return {
        class_: min(most, room.at_once + math.floor(queue * QUEUE_SHARE[class_] + 0.5)) for class_ in CLASSES
    }


def figures(view: FleetView) -> Iterator[tuple[str, str]]:
    """Files that the scripts read: path below Envoy's directory, and content."""
    for pool in view.pools:
        if guards(view, pool):
            lines = [f"{name} {value:.6g}\n" for name, value in _figures(view, pool)]
            yield _file(pool), "".join(lines)


def _figures(view: FleetView, pool: Pool) -> Iterator[tuple[str, float]]:
    for class_ in CLASSES:
        yield f"kept.{class_}", kept(view, pool, class_)
    if view.counts(pool):
        for class_, room in rooms(view, pool).items():
            yield f"room.{class_}", room
    threshold = view.threshold(pool)
    if threshold or view.counts(pool):
        yield "counted", 1
    if threshold:
        yield "stay_below", threshold.stay_below
        yield "leave_at", threshold.leave_at
        yield "guests_at", threshold.guests_at
    if view.counts(pool) and (pace := view.pace.get(pool.key)):
        yield "at_once", view.rooms[pool.key].at_once
        yield "service_ms", pace.service_ms
        yield "per_request_ms", pace.per_request_ms


def _file(pool: Pool) -> str:
    return f"{_DIRECTORY}/{pool.key}"


def _specifier(view: FleetView, out: Path, pool: Pool, here: str, *, away: bool) -> Json:
    counted = [name(pool, each) for each in protocols(pool) for name in (home_cluster, local_cluster)]
    default = view.class_of(pool)
    constants = {
        "here": _text(here),
        "away": _text(away_cluster(pool, default).removesuffix(default)) if away else "nil",
        "counted": "{" + ", ".join(map(_text, counted)) + "}",
        "file": _text(str(out / _file(pool))),
        "default": _text(default),
    }
    return {
        "extension": {
            **extension(
                "envoy.router.cluster_specifier_plugin.lua",
                "envoy.extensions.router.cluster_specifiers.lua.v3.LuaConfig",
                source_code=scripts.source("admission", **constants),
                default_cluster=here,
            ),
            "name": here,
        }
    }


def _text(value: str) -> str:
    """A Lua string, which JSON's are too."""
    return json.dumps(value, ensure_ascii=False)
