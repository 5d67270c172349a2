"""Which requests are answered here, which at another site, and which are refused: Envoy cluster specifiers.

A cluster specifier chooses the cluster of each request as it comes. Its script reads how many requests are in
flight here, over both protocols, for clients and for other sites, and how many are under way from here to
each other site. A request goes where it adds least to the time of all (`plan.choice`), or, where that is not
for single requests to say, as the plan's shares and thresholds do. It leaves in any case once its class's
room is taken, or when it would come after its deadline here; where no other site may be asked, it is refused.
Two requests that come at the very same moment may both find the last place free: the room is then exceeded by
one.
(https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/cluster_specifier/lua)

What changes while Envoy runs, rooms and shares, is in a small file for each pool, which the script reads
again once a second: Envoy hands such a script nothing else, and new routes every second would cost more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

from serving.fleet import CLASSES, Class, waiting
from serving.router import scripts
from serving.router.clusters import away_cluster, home_cluster, local_cluster, protocols, site_cluster
from serving.router.options import Option
from serving.router.shares import kept
from serving.router.view import FleetView, Pool
from serving.router.xds import Json, extension

ENDLESS = 1_000_000
"""Stands for a room that nobody has told."""
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
    return {class_: min(most, room.at_once + math.floor(waiting(class_, queue) + 0.5)) for class_ in CLASSES}


def figures(view: FleetView) -> Iterator[tuple[str, str]]:
    """Files that the scripts read: path below Envoy's directory, and content."""
    for pool in view.pools:
        if guards(view, pool):
            lines = [f"{name} {value:.6g}\n" for name, value in _figures(view, pool)]
            yield _file(pool), "".join([*lines, *_options(view, pool)])


def _figures(view: FleetView, pool: Pool) -> Iterator[tuple[str, float]]:
    for class_ in CLASSES:
        yield f"kept.{class_}", kept(view, pool, class_)
    if view.counts(pool):
        for class_, room in rooms(view, pool).items():
            yield f"room.{class_}", room
    threshold, choice = view.threshold(pool), view.choice(pool)
    if threshold or choice or view.counts(pool):
        yield "counted", 1
    if threshold and not choice:
        yield "stay_below", threshold.stay_below
        yield "leave_at", threshold.leave_at
    if view.counts(pool) and (pace := view.pace.get(pool.key)):
        yield "at_once", view.rooms[pool.key].at_once
        yield "per_request_ms", pace.per_request_ms
        if pace.service_ms is not None:
            yield "service_ms", pace.service_ms


def _options(view: FleetView, pool: Pool) -> Iterator[str]:
    """A line for each site: the name of its cluster, `here` for this one, and what an `Option` says, the
    rooms in the order of the classes."""
    if choice := view.choice(pool):
        yield _line("here", choice.here)
        for site, option in choice.elsewhere.items():
            yield _line(site_cluster(pool, site), option)


def _line(name: str, option: Option) -> str:
    rooms = (option.rooms.get(class_, ENDLESS) for class_ in CLASSES)
    values = (option.base_s, option.servers, option.each_s, option.others, option.looked, *rooms)
    return f"option {name} {' '.join(f'{value:.4g}' for value in values)}\n"


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
