"""What this site's Envoy counts: what clients bring to the front door, what its apps have, what it took up.

https://www.envoyproxy.io/docs/envoy/latest/configuration/upstream/cluster_manager/cluster_stats,
https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#statistics
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

import httpx
from pydantic import BaseModel, Field

from serving.fleet import CLASSES, Class
from serving.router.view import LOOPBACK, FleetView, Pool

_POOL = r"(?P<kind>model|app)\.(?P<name>[a-z0-9-]+)"
_CLASS = "|".join(CLASSES)
_OFFERED = re.compile(rf"vhost\.front-door\.route\.{_POOL}\.(?P<class>{_CLASS})\.upstream_rq_completed")
_SITE = r"at\.(?P<site>[a-z0-9-]+)"
_CARRIED = re.compile(
    rf"cluster\.{_POOL}\.(?:http|grpc|{_CLASS}|{_SITE})\.upstream_(?P<what>rq_total|cx_[rt]x_bytes_total)"
)
_THERE = re.compile(rf"cluster\.{_POOL}\.{_SITE}\.(?P<what>upstream_rq_active|membership_(?:healthy|total))")
_HAD = re.compile(rf"cluster\.{_POOL}\.(?:http|grpc)(?:\.local)?\.upstream_rq_active")
_UPDATE = re.compile(r".*\.update_(success|failure|rejected)")
_WANTED = "|".join(
    (
        r"^vhost\.front-door\.route\..*\.upstream_rq_completed$",
        r"^cluster\.(model|app)\..*\.(upstream_rq_total|upstream_cx_[rt]x_bytes_total)$",
        r"^cluster\.model\..*\.upstream_rq_active$",
        r"^cluster\.(model|app)\.[^.]*\.at\..*\.(upstream_rq_active|membership_(healthy|total))$",
        r"^vhost\.peer\.route\.app\..*\.questions\.upstream_rq_(total|5xx)$",
        r"^cluster\.app\..*\.(rq_total|rq_error|rq_active|healthy|upstream_rq_5xx|upstream_rq_active)$",
        r"\.update_(success|failure|rejected)$",
    )
)
"""Which of Envoy's thousands of statistics are sent at all."""

Counter = Literal["carried", "bytes_out", "bytes_in", "asked", "errors", "probed", "unready"]
Key = tuple[Pool, Counter] | tuple[Pool, Literal["offered"], Class] | Literal["taken", "refused"]
"""`asked` and `errors`: of this site's own app; `probed` and `unready`: those of them that were other sites'
probes. `taken`, `refused`: configuration updates."""
_CARRIED_AS: dict[str, Counter] = {
    "rq_total": "carried",
    "cx_tx_bytes_total": "bytes_out",
    "cx_rx_bytes_total": "bytes_in",
}


class _Statistic(BaseModel):
    name: str = ""
    value: float = 0.0


class _Statistics(BaseModel):
    stats: list[_Statistic] = Field(default=[])


@dataclass(frozen=True)
class DoorReading:
    """All of one Envoy at one moment."""

    counters: Mapping[Key, float]
    in_flight: Mapping[Pool, float]
    """Requests that this site's own apps and models have, waiting ones included."""
    ready: frozenset[Pool]
    """Apps of this site whose probes pass."""
    under_way: Mapping[tuple[Pool, str], float] = field(default_factory=dict)
    """Requests from here to each other site that Envoy can reach."""


async def read(client: httpx.AsyncClient, view: FleetView) -> DoorReading:
    """Ask the Envoy on this machine. Raises `httpx.HTTPError` or `ValueError` when that does not work."""
    # What has never counted anything is 0, and most of Envoy's statistics: it need not look at their names.
    wanted = {"usedonly": "", "format": "json", "filter": _WANTED}
    answer = await client.get(f"http://{LOOPBACK}:{view.ports.admin}/stats", params=wanted)
    answer.raise_for_status()
    return parse(answer.content, view)


def parse(statistics: bytes, view: FleetView) -> DoorReading:
    """Make sense of Envoy's answer. Raises `ValueError` when it is not Envoy's."""
    found = {each.name: each.value for each in _Statistics.model_validate_json(statistics).stats}
    counters: defaultdict[Key, float] = defaultdict(float)
    for name, value in found.items():
        _count(counters, name, value)
    apps = {Pool("app", app): _App(found, app, view.ports.apps[app]) for app in view.local.apps}
    for pool, app in apps.items():
        counters[pool, "asked"], counters[pool, "errors"] = app.asked, app.errors
        counters[pool, "probed"], counters[pool, "unready"] = app.probed, app.unready
    return DoorReading(
        counters=dict(counters),
        in_flight=_models_in_flight(found) | {pool: app.in_flight for pool, app in apps.items()},
        ready=frozenset(pool for pool, app in apps.items() if app.is_ready),
        under_way=_under_way(found),
    )


def _count(counters: defaultdict[Key, float], name: str, value: float) -> None:
    if match := _OFFERED.fullmatch(name):
        # Once for each request, however often it was tried, and for those that were refused.
        counters[_pool(match), "offered", cast("Class", match["class"])] += value
    elif match := _CARRIED.fullmatch(name):
        counters[_pool(match), _CARRIED_AS[match["what"]]] += value
    elif match := _UPDATE.fullmatch(name):
        counters["taken" if match[1] == "success" else "refused"] += value


def _models_in_flight(found: Mapping[str, float]) -> dict[Pool, float]:
    """Over both protocols, for clients and for other sites: what the front door's rooms count."""
    had: defaultdict[Pool, float] = defaultdict(float)
    for name, value in found.items():
        if (match := _HAD.fullmatch(name)) and match["kind"] == "model":
            had[_pool(match)] += value
    return dict(had)


def _under_way(found: Mapping[str, float]) -> dict[tuple[Pool, str], float]:
    seen: defaultdict[tuple[Pool, str], dict[str, float]] = defaultdict(dict)
    for name, value in found.items():
        if match := _THERE.fullmatch(name):
            seen[_pool(match), match["site"]][match["what"]] = value
    # Of the endpoints of such a cluster, only the one site is probed.
    return {
        way: one.get("upstream_rq_active", 0.0)
        for way, one in seen.items()
        if one.get("membership_healthy", 0.0) == one.get("membership_total")
    }


def _pool(match: re.Match[str]) -> Pool:
    return Pool(cast("Literal['model', 'app']", match["kind"]), match["name"])


class _App:
    """This site's own app: asked by its front door (one endpoint of many) and by other sites' (`local`)."""

    def __init__(self, found: Mapping[str, float], name: str, port: int) -> None:
        cluster = f"cluster.app.{name}.http"
        here, hops = f"{cluster}.endpoint.{LOOPBACK}_{port}", f"{cluster}.local.upstream"
        probes = f"vhost.peer.route.app.{name}.questions.upstream"

        def both(stat: str, of_hops: str) -> float:
            return found.get(f"{here}.{stat}", 0.0) + found.get(f"{hops}_{of_hops}", 0.0)

        self.asked, self.errors = both("rq_total", "rq_total"), both("rq_error", "rq_5xx")
        self.probed, self.unready = (found.get(f"{probes}_{stat}", 0.0) for stat in ("rq_total", "rq_5xx"))
        self.in_flight = both("rq_active", "rq_active")
        self.is_ready = found.get(f"{here}.healthy", 0.0) > 0
