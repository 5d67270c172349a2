"""The endpoints of a cluster: which sites it may ask, in which order, and where each is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from serving.router import tls
from serving.router.view import LOOPBACK, Address, FleetView, Pool, SiteView
from serving.router.xds import Json, socket_address

Protocol = Literal["http", "grpc"]

WEIGHTS = 10_000
"""Locality weights are whole numbers: a share of 1 is this."""


def assignment(
    view: FleetView,
    name: str,
    pool: Pool,
    tiers: Sequence[Mapping[str, float]],
    protocol: Protocol | None = None,
    *,
    probed: Collection[str] | None = None,
) -> Json:
    """Sites by share, in one priority for each tier that has any: the next is for when one is down.

    `protocol`: what the local site's own parts are asked in; None: it is asked like the others. `probed`: the
    sites that are; None: all.
    """
    sites = {site.name: site for site in view.sites}
    filled = (tier for tier in tiers if tier)
    return {
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": name,
        "endpoints": [
            {
                "locality": {"zone": site},
                "priority": priority,
                "load_balancing_weight": max(1, round(share * WEIGHTS)),
                "lb_endpoints": [
                    endpoint(view, sites[site], pool, protocol, probed=probed is None or site in probed)
                ],
            }
            for priority, tier in enumerate(filled)
            for site, share in tier.items()
        ],
        # 100: load falls as soon as part of a locality is unhealthy (the default lets 28% be down first).
        "policy": {"overprovisioning_factor": 100},
    }


def last_resort(view: FleetView, pool: Pool, priority: int) -> Json:
    """The local site for when no site seems to be well, this one included: it may only be late.

    `DEGRADED`: asked after all that are healthy, and not counted as one of them.
    """
    return {
        "locality": {"zone": view.local.name, "sub_zone": "last-resort"},
        "priority": priority,
        "load_balancing_weight": 1,
        "lb_endpoints": [{**endpoint(view, view.local, pool, None), "health_status": "DEGRADED"}],
    }


def endpoint(
    view: FleetView, site: SiteView, pool: Pool, protocol: Protocol | None, *, probed: bool = True
) -> Json:
    """Where `site` is asked; `protocol` as in `assignment`."""
    is_here = site.name == view.local.name
    fields: Json = {}
    metadata: Json = {"headend": {"site": site.name}}
    if is_here and protocol:
        address, probe = _local_addresses(view, pool, protocol)
        check: Json = {"port_value": probe.port}
    else:
        address = site.peer
        # Home needs no probes at its own peer listener, which says no while the site drains.
        asked = probed and not is_here
        check = {"port_value": address.port} if asked else {"disable_active_health_check": True}
        fields, match = tls.of_endpoint(view, site)
        metadata |= match
    return {
        "endpoint": {**fields, "address": socket_address(address), "health_check_config": check},
        "metadata": {"filter_metadata": metadata},
    }


def _local_addresses(view: FleetView, pool: Pool, protocol: Protocol) -> tuple[Address, Address]:
    """Where requests go and where readiness is asked."""
    ports = view.ports
    if pool.kind == "app":
        return Address(LOOPBACK, ports.apps[pool.name]), Address(LOOPBACK, ports.apps[pool.name])
    port = ports.triton_grpc if protocol == "grpc" else ports.triton_http
    return Address(LOOPBACK, port), Address(LOOPBACK, ports.triton_http)
