"""Envoy's clusters and endpoints: for every pool one cluster that spans the fleet and one that stays here.

A model's pool has both for each protocol, since Triton answers HTTP and gRPC on different ports, and a third
one for what is too much here: Envoy's circuit breakers refuse, but never send a request elsewhere, so the
routes count (see `overflow`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from serving.fleet import DEFAULT_CLASS
from serving.router import canary, tls
from serving.router.shares import shares
from serving.router.view import LOOPBACK, SERVER, Address, FleetView, Pool, SiteView
from serving.router.xds import Json, socket_address

Protocol = Literal["http", "grpc"]
Scope = Literal["fleet", "local", "elsewhere"]

CONNECT_TIMEOUT = "1s"
HEALTH_INTERVAL = "2s"
"""Each probe costs Triton a fraction of a millisecond; retries cover the time until a probe notices."""
HEALTH_TIMEOUT = "5s"
"""Long, because a busy machine answers late, and late is not dead."""
AGENT = "agent"
"""The cluster that leads to the site's own agent."""
WEIGHTS = 10_000
"""Locality weights are whole numbers: a share of 1 is this."""


def cluster_name(pool: Pool, protocol: Protocol, scope: Scope) -> str:
    """The name of a pool's cluster; also the name of its endpoint file."""
    suffix = "" if scope == "fleet" else f".{scope}"
    return f"{pool.kind}.{pool.name}.{protocol}{suffix}"


def protocols(pool: Pool) -> tuple[Protocol, ...]:
    """What a pool's members speak."""
    return ("http",) if pool.kind == "app" else ("http", "grpc")


def readiness_path(pool: Pool) -> str:
    """The path that answers 200 when a site can answer `pool`: at its parts, and at its peer listener."""
    match pool.kind:
        case "model":
            return f"/v2/models/{pool.name}/ready"
        case "app":
            return f"/-/ready/{pool.name}"
        case "server":
            # Not `ready`, which is no as long as one model is missing.
            return "/v2/health/live"


def fleet_clusters(view: FleetView) -> Iterator[tuple[str, Pool, Protocol]]:
    """Every cluster that spans the fleet."""
    for pool in view.pools:
        for protocol in protocols(pool):
            yield cluster_name(pool, protocol, "fleet"), pool, protocol


def clusters(view: FleetView, eds: Callable[[str], Json], secrets: tls.Secrets) -> list[Json]:
    """All clusters; `eds(name)` gives the config source of a cluster's endpoints, `secrets(name)` that of a
    secret.
    """
    spanning = [
        {**_fleet_cluster(view, name, pool, protocol, eds(name)), **tls.of_cluster(view, secrets)}
        for name, pool, protocol in fleet_clusters(view)
    ]
    staying = [
        _local_cluster(view, pool, protocol)
        for pool in view.pools
        if view.local.answers(pool)
        for protocol in protocols(pool)
    ]
    leaving = [
        {**_elsewhere_cluster(view, pool, protocol), **tls.of_cluster(view, secrets)}
        for pool in view.pools
        if view.overflows(pool)
        for protocol in protocols(pool)
    ]
    own = [_door(view, eds(canary.DOOR)), *_judge(view), *_agent(view)]
    return [*spanning, *staying, *leaving, *own]


def endpoints(view: FleetView, pool: Pool, protocol: Protocol) -> Json:
    """Where `pool` is answered: priority 0 by share, priority 1 the other sites as a last resort."""
    split, kept = shares(view, pool, DEFAULT_CLASS), {view.local.name: canary.kept(view, pool)}
    return {
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": cluster_name(pool, protocol, "fleet"),
        "endpoints": [
            *(
                {
                    "locality": {"zone": site.name},
                    "priority": 0 if split[site.name] > 0 else 1,
                    "load_balancing_weight": max(
                        1, round(split[site.name] * kept.get(site.name, 1) * WEIGHTS)
                    ),
                    "lb_endpoints": [_endpoint(view, site, pool, protocol)],
                }
                for site in view.sites_of(pool)
            ),
            *canary.localities(view, pool, protocol, split.get(view.local.name, 0.0), WEIGHTS),
        ],
        # 100: load falls as soon as part of a locality is unhealthy (the default lets 28% be down first).
        "policy": {"overprovisioning_factor": 100},
    }


def _fleet_cluster(view: FleetView, name: str, pool: Pool, protocol: Protocol, source: Json) -> Json:
    # What overflows is led elsewhere before a circuit can break.
    most = view.limits.concurrency if view.overflows(pool) else view.room_of(pool)
    return {
        **_cluster(view, name, protocol, most),
        # An app counts nothing by itself: the agent reads what this site's endpoint has in flight.
        **({"track_cluster_stats": {"per_endpoint_stats": True}} if pool.kind == "app" else {}),
        "type": "EDS",
        "eds_cluster_config": {"eds_config": source},
        "common_lb_config": {
            "locality_weighted_lb_config": {},
            # Never send to a host known to be down because many are: the other site is the last resort.
            "healthy_panic_threshold": {"value": 0},
        },
        "health_checks": [_health_check(pool)],
        "outlier_detection": _outlier_detection(),
        # Endpoints count as unready until the first probe says otherwise, and leave without waiting for one.
        "ignore_health_on_host_removal": True,
    }


def _local_cluster(view: FleetView, pool: Pool, protocol: Protocol) -> Json:
    """One endpoint and no probes: there is nothing to choose, and a refused connection says it sooner."""
    name = cluster_name(pool, protocol, "local")
    return {
        **_cluster(view, name, protocol, view.room_of(pool)),
        **_static(name, [_endpoint(view, view.local, pool, protocol)]),
    }


def _elsewhere_cluster(view: FleetView, pool: Pool, protocol: Protocol) -> Json:
    """The other sites. No probes: what comes here would be refused otherwise, and is retried."""
    name = cluster_name(pool, protocol, "elsewhere")
    others = [site for site in view.sites_of(pool) if site is not view.local]
    return {
        **_cluster(view, name, protocol, view.limits.concurrency),
        **_static(name, [_endpoint(view, site, pool, protocol) for site in others]),
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "outlier_detection": _outlier_detection(),
    }


def _door(view: FleetView, source: Json) -> Json:
    bare = _cluster(view, canary.DOOR, "http", view.limits.concurrency)
    return {**bare, "type": "EDS", "eds_cluster_config": {"eds_config": source}}


def _judge(view: FleetView) -> Iterator[Json]:
    """Where copies of requests go while a new version is compared with the old one."""
    if judge := view.transition.judge:
        for protocol in protocols(SERVER):
            name, at = canary.judge_cluster(protocol), canary.judge_address(judge, protocol)
            endpoint = {"endpoint": {"address": socket_address(at)}}
            yield {**_cluster(view, name, protocol, view.limits.concurrency), **_static(name, [endpoint])}


def _agent(view: FleetView) -> Iterator[Json]:
    """Where summaries of other sites go; no probes: an agent that does not answer has nothing to say."""
    if view.ports.agent:
        endpoint = {"endpoint": {"address": socket_address(Address(LOOPBACK, view.ports.agent))}}
        yield {**_cluster(view, AGENT, "http", view.limits.concurrency), **_static(AGENT, [endpoint])}


def _static(name: str, endpoints: list[Json]) -> Json:
    return {
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }


def _cluster(view: FleetView, name: str, protocol: Protocol, most: int) -> Json:
    return {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "connect_timeout": CONNECT_TIMEOUT,
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [_limits(view, most)]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                **tls.connection_life(view),
                "explicit_http_config": (
                    {
                        "http2_protocol_options": {
                            "connection_keepalive": {"interval": "30s", "timeout": "10s"}
                        }
                    }
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


def _limits(view: FleetView, most: int) -> Json:
    wide = view.limits.concurrency
    return {
        # Wide, so that no request waits here for a connection beyond those that `max_requests` counts.
        "max_connections": wide,
        "max_pending_requests": wide,
        "max_requests": most,
        # When a site dies, all it had in flight must be able to move at once; 100% bounds the load to twice.
        "retry_budget": {"budget_percent": {"value": 100}, "min_retry_concurrency": 16},
    }


def _health_check(pool: Pool) -> Json:
    return {
        "timeout": HEALTH_TIMEOUT,
        "interval": HEALTH_INTERVAL,
        "interval_jitter_percent": 20,
        # Without it, a pool nobody has used yet is probed once a minute and its first request finds old news.
        "no_traffic_interval": HEALTH_INTERVAL,
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "http_health_check": {"path": readiness_path(pool), "host": pool.name},
    }


def _outlier_detection() -> Json:
    """Ejects a host that cannot be talked to before the next probe says so.

    Error answers do not eject: a full queue (503) is load, and a 500 may be the request's fault.
    """
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 3,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "interval": "1s",
        "base_ejection_time": "5s",
        "max_ejection_time": "60s",
        # With two sites, one at most: an ejection may be wrong, and somebody must be left to ask.
        "max_ejection_percent": 50,
        # A probe can pass where requests do not.
        "successful_active_health_check_uneject_host": False,
    }


def _endpoint(view: FleetView, site: SiteView, pool: Pool, protocol: Protocol) -> Json:
    if site.name == view.local.name:
        address, probe = _local_addresses(view, pool, protocol)
    else:
        address = probe = site.peer
    fields, metadata = tls.of_endpoint(view, site)
    return {
        "endpoint": {
            **fields,
            "address": socket_address(address),
            "health_check_config": {"port_value": probe.port},
        },
        "metadata": {"filter_metadata": {"headend": {"site": site.name}, **metadata}},
    }


def _local_addresses(view: FleetView, pool: Pool, protocol: Protocol) -> tuple[Address, Address]:
    """Where requests go and where readiness is asked."""
    ports = view.ports
    if pool.kind == "app":
        return Address(LOOPBACK, ports.apps[pool.name]), Address(LOOPBACK, ports.apps[pool.name])
    port = ports.triton_grpc if protocol == "grpc" else ports.triton_http
    return Address(LOOPBACK, port), Address(LOOPBACK, ports.triton_http)
