"""Envoy's clusters: for every pool what is answered here, and where else it may be.

- `model.x.grpc` and `model.x.http` (Triton answers them on different ports): the local site, the nearest
  others for when it is down, and for when they are down too, the local site whatever its probes say;
- `model.x.live`, `.interactive` and `.batch`: the other sites, by the plan's shares for the class, and the
  local site for when they are down. All are asked at their peer listeners, HTTP and gRPC alike over HTTP/2,
  so these need no protocol;
- `model.x.at.y`: site `y`, chosen for one request (see `admission`). Where it is down, or its room is taken,
  the local site is asked, and then others. Only `y` is probed;
- `model.x.grpc.local` and `model.x.http.local`: the local site alone, for what has come from another, and
  for that last resort. Its probes wait longer: of a site that nobody can replace, late is not dead.

Envoy's circuit breakers refuse, but never send a request elsewhere: which of them a request goes to, is said
by routes that count (see `admission`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from serving.fleet import CLASSES, DEFAULT_CLASS, Class
from serving.router import canary, endpoints, tls
from serving.router.endpoints import Protocol
from serving.router.health import (
    LATE_TIMEOUT,
    PEER_KEEPALIVE,
    SERVER_KEEPALIVE,
    health_check,
    outlier_detection,
)
from serving.router.shares import ALTERNATIVES, away
from serving.router.view import LOOPBACK, SERVER, Address, FleetView, Pool, SiteView
from serving.router.xds import Json, socket_address

CONNECT_TIMEOUT = "1s"
AGENT = "agent"
"""The cluster that leads to the site's own agent."""
REFUSED = ("refused.full", "refused.late")
"""Clusters that take no request: the routes lead there what they refuse, and Envoy answers at once."""
_BALANCING: Json = {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0.05s"}
"""Never send to a host known to be down because many are: there is a last resort. And tell the threads that
balance at once who is down, and of new weights: by default all but the first news of a second wait for its
end (`update_merge_window` of Envoy's `CommonLbConfig`)."""


def home_cluster(pool: Pool, protocol: Protocol) -> str:
    """The name of the cluster for what is answered here."""
    return f"{pool.key}.{protocol}"


def local_cluster(pool: Pool, protocol: Protocol) -> str:
    """The name of the cluster that never leaves the site."""
    return f"{pool.key}.{protocol}.local"


def away_cluster(pool: Pool, class_: Class) -> str:
    """The name of the cluster of other sites."""
    return f"{pool.key}.{class_}"


def site_cluster(pool: Pool, site: str) -> str:
    """The name of the cluster of one other site."""
    return f"{pool.key}.at.{site}"


def protocols(pool: Pool) -> tuple[Protocol, ...]:
    """What a pool's members speak."""
    return ("http",) if pool.kind == "app" else ("http", "grpc")


def classes_of(pool: Pool) -> tuple[Class, ...]:
    """Classes that a pool's requests may have; questions about a server have but one."""
    return (DEFAULT_CLASS,) if pool.kind == "server" else CLASSES


def clusters(view: FleetView, eds: Callable[[str], Json], secrets: tls.Secrets) -> list[Json]:
    """All clusters; `eds(name)` gives the config source of a cluster's endpoints, `secrets(name)` that of a
    secret.
    """
    peers = tls.of_cluster(view, secrets)
    here = [
        (pool, protocol) for pool in view.pools if view.local.answers(pool) for protocol in protocols(pool)
    ]
    return [
        *(_home(view, pool, each, eds(home_cluster(pool, each))) | peers for pool, each in here),
        *(_away(view, pool, each, eds(away_cluster(pool, each))) | peers for pool, each in _aways(view)),
        *(_at(view, pool, site.name) | peers for pool, site in _single(view)),
        *(_local(view, pool, protocol) for pool, protocol in here),
        *(_refusing(name) for name in REFUSED),
        _door(view, eds(canary.DOOR)),
        *_judge(view),
        *_agent(view),
    ]


def ready_clusters(view: FleetView) -> Iterator[tuple[str, float]]:
    """For every pool the clusters that know whether some site can answer it, and the percentage of their
    endpoints that must be healthy then: one, beside the last resort, which is not probed.
    """
    for pool in view.pools:
        if view.local in view.sites_of(pool):
            for protocol in protocols(pool):
                hosts = len(_at_home(view, pool, protocol)["endpoints"])
                yield home_cluster(pool, protocol), 100 // hosts + 1
        else:
            yield away_cluster(pool, view.class_of(pool)), 1


def assignments(view: FleetView) -> Iterator[Json]:
    """The endpoints of every cluster that finds them in a file."""
    for pool in view.pools:
        if canary.canary_of(view, pool) and view.local.answers(pool):
            yield from (_at_home(view, pool, protocol) for protocol in protocols(pool))
    for pool, class_ in _aways(view):
        if _has_choice(view, pool):
            yield _elsewhere(view, pool, class_)


def _at_home(view: FleetView, pool: Pool, protocol: Protocol) -> Json:
    nearest = dict.fromkeys([site.name for site in view.nearest(pool)][:ALTERNATIVES], 0.0)
    tiers = ({view.local.name: canary.kept(view, pool)}, nearest)
    found = endpoints.assignment(view, home_cluster(pool, protocol), pool, tiers, protocol)
    found["endpoints"] += [
        *canary.localities(view, pool, protocol, 1.0, endpoints.WEIGHTS),
        endpoints.last_resort(view, pool, priority=2 if nearest else 1),
    ]
    if not canary.canary_of(view, pool):
        # One of the others is enough, as long as a tenth of them are well.
        found["policy"]["overprovisioning_factor"] = 1000
    return found


def _elsewhere(view: FleetView, pool: Pool, class_: Class) -> Json:
    """Where the others are gone, what was led away comes home; before the spare sites, for of home it is
    certain that it can be reached, and a class may ask no more than two.
    """
    split, spare = away(view, pool, class_)
    home = [view.local.name] if view.local in view.sites_of(pool) else []
    tiers = (split, dict.fromkeys(home, 0.0), dict.fromkeys(spare, 0.0))
    return endpoints.assignment(view, away_cluster(pool, class_), pool, tiers)


def _has_choice(view: FleetView, pool: Pool) -> bool:
    """Whether a plan can change where requests go that leave."""
    return len(view.nearest(pool)) > 1


def _aways(view: FleetView) -> Iterator[tuple[Pool, Class]]:
    for pool in view.pools:
        if any(site.answers(pool) for site in view.others):
            yield from ((pool, class_) for class_ in classes_of(pool))


def _single(view: FleetView) -> Iterator[tuple[Pool, SiteView]]:
    for pool in view.pools:
        if view.weighs(pool):
            yield from ((pool, site) for site in view.nearest(pool))


def _home(view: FleetView, pool: Pool, protocol: Protocol, source: Json) -> Json:
    found = source if canary.canary_of(view, pool) else None
    cluster = _cluster(view, home_cluster(pool, protocol), protocol)
    # An app counts nothing by itself: the agent reads what this site's endpoint has in flight.
    tracked = {"track_cluster_stats": {"per_endpoint_stats": True}} if pool.kind == "app" else {}
    return {**cluster, **tracked, **_chosen_by_health(pool, _at_home(view, pool, protocol), found)}


def _away(view: FleetView, pool: Pool, class_: Class, source: Json) -> Json:
    found = source if _has_choice(view, pool) else None
    cluster = _cluster(view, away_cluster(pool, class_), "grpc", PEER_KEEPALIVE)
    return {**cluster, **_chosen_by_health(pool, _elsewhere(view, pool, class_), found, peers=True)}


def _at(view: FleetView, pool: Pool, site: str) -> Json:
    name, nearest = site_cluster(pool, site), [other.name for other in view.nearest(pool)]
    spare = [other for other in nearest if other != site][:ALTERNATIVES]
    tiers = ({site: 1.0}, {view.local.name: 1.0}, dict.fromkeys(spare, 1.0))
    found = endpoints.assignment(view, name, pool, tiers, probed=(site,))
    cluster = _cluster(view, name, "grpc", PEER_KEEPALIVE)
    return {**cluster, **_chosen_by_health(pool, found, None, peers=True)}


def _chosen_by_health(pool: Pool, assignment: Json, source: Json | None, *, peers: bool = False) -> Json:
    """Endpoints by locality, probed; they are read from `source` where a plan or a roll-out changes them.

    Only there: each file that Envoy watches takes one of the user's inotify instances, of which Linux has 128
    for all of the user's processes (`fs.inotify.max_user_instances`), and Envoy ends where it gets none.
    """
    static = {key: value for key, value in assignment.items() if key != "@type"}
    return {
        **(
            {"type": "EDS", "eds_cluster_config": {"eds_config": source}}
            if source
            else {"type": "STATIC", "load_assignment": static}
        ),
        "common_lb_config": {"locality_weighted_lb_config": {}, **_BALANCING},
        **health_check(pool, peers=peers),
        **outlier_detection(),
    }


def _local(view: FleetView, pool: Pool, protocol: Protocol) -> Json:
    """One endpoint. Its probes are patient, and keep requests from a server that says it is not ready."""
    name = local_cluster(pool, protocol)
    endpoint = endpoints.endpoint(view, view.local, pool, protocol)
    return {
        **_cluster(view, name, protocol),
        **_static(name, endpoint),
        "common_lb_config": _BALANCING,
        **health_check(pool, timeout=LATE_TIMEOUT),
    }


def _refusing(name: str) -> Json:
    """Not one connection may be made: Envoy answers that the cluster is full (response flag UO)."""
    nowhere = {"endpoint": {"address": socket_address(Address(LOOPBACK, 9))}}
    none = {"max_connections": 0, "max_pending_requests": 0, "max_requests": 0}
    return {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "circuit_breakers": {"thresholds": [none]},
        **_static(name, nowhere),
    }


def _door(view: FleetView, source: Json) -> Json:
    bare = _cluster(view, canary.DOOR, "http")
    return {**bare, "type": "EDS", "eds_cluster_config": {"eds_config": source}}


def _judge(view: FleetView) -> Iterator[Json]:
    """Where copies of requests go while a new version is compared with the old one."""
    if judge := view.transition.judge:
        for protocol in protocols(SERVER):
            name, at = canary.judge_cluster(protocol), canary.judge_address(judge, protocol)
            endpoint = {"endpoint": {"address": socket_address(at)}}
            yield {**_cluster(view, name, protocol), **_static(name, endpoint)}


def _agent(view: FleetView) -> Iterator[Json]:
    """Where summaries of other sites go; no probes: an agent that does not answer has nothing to say."""
    if view.ports.agent:
        endpoint = {"endpoint": {"address": socket_address(Address(LOOPBACK, view.ports.agent))}}
        yield {**_cluster(view, AGENT, "http"), **_static(AGENT, endpoint)}


def _static(name: str, endpoint: Json) -> Json:
    return {
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _cluster(view: FleetView, name: str, protocol: Protocol, keepalive: Json = SERVER_KEEPALIVE) -> Json:
    wide = view.limits.concurrency
    return {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "connect_timeout": CONNECT_TIMEOUT,
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {
            "thresholds": [
                {
                    # So that no request waits here for a connection beyond those `max_requests` counts.
                    "max_connections": wide,
                    "max_pending_requests": wide,
                    "max_requests": wide,
                    # When a site dies, all it had in flight must be able to move at once. A budget is a share
                    # of what is in flight at that moment, of which nothing is left then. What keeps retries
                    # bounded is that each request may ask few sites.
                    "max_retries": wide,
                }
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                **tls.connection_life(view),
                "explicit_http_config": (
                    {"http2_protocol_options": {"connection_keepalive": keepalive}}
                    if protocol == "grpc"
                    else {"http_protocol_options": {}}
                ),
            }
        },
        # A pulled plug sends no reset: probes of an idle connection find it out, and the request moves on.
        "upstream_connection_options": {
            "tcp_keepalive": {"keepalive_time": 10, "keepalive_interval": 5, "keepalive_probes": 3}
        },
    }
