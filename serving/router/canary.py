"""A new version beside the old one at the front door: its part of the share, and copies for the judge.

The canary is a second Triton of the local site (`transition`). It is an endpoint of the model's own clusters,
so probes, retries and ejection guard clients against it as they do against any other. What other sites send
here is not split: a request makes one hop at most, and their front doors judge for themselves.
"""

from __future__ import annotations

from collections.abc import Iterator

from serving.router.transition import Canary
from serving.router.view import LOOPBACK, Address, FleetView, Pool
from serving.router.xds import Json, socket_address

LOCALITY = "canary"
"""The sub-zone of the canary's endpoint; its zone is the site."""
DOOR = "door"
"""A cluster that carries nothing: while it has an endpoint, the front door takes clients."""


def canary_of(view: FleetView, pool: Pool) -> Canary | None:
    """The local site's canary for `pool`."""
    return view.transition.canaries.get(pool.name) if pool.kind == "model" else None


def kept(view: FleetView, pool: Pool) -> float:
    """What part of the local site's share its old version keeps."""
    canary = canary_of(view, pool)
    return 1 - canary.share if canary else 1.0


def localities(view: FleetView, pool: Pool, protocol: str, share: float, weights: int) -> Iterator[Json]:
    """The canary's locality, with its part of the site's `share`; weights are of `weights` in all.

    Without a part it stays listed, so that what it still works on can be counted, and gets nothing new.
    """
    canary = canary_of(view, pool)
    if canary is None:
        return
    takes = share * canary.share
    port = canary.grpc if protocol == "grpc" else canary.http
    yield {
        "locality": {"zone": view.local.name, "sub_zone": LOCALITY},
        "priority": 0 if takes else 1,
        "load_balancing_weight": max(1, round(takes * weights)),
        "lb_endpoints": [
            {
                "endpoint": {
                    "address": socket_address(Address(LOOPBACK, port)),
                    "health_check_config": {"port_value": canary.http},
                },
                "metadata": {"filter_metadata": {"headend": {"site": view.local.name}}},
                **({} if takes else {"health_status": "DRAINING"}),
            }
        ],
    }


def judge_cluster(protocol: str) -> str:
    """The name of the judge's cluster for one protocol."""
    return f"judge.{protocol}"


def judge_address(canary: Canary, protocol: str) -> Address:
    """Where the judge listens."""
    return Address(LOOPBACK, canary.judge_grpc if protocol == "grpc" else canary.judge_http)


def copies(view: FleetView, pool: Pool, protocol: str) -> Json:
    """What a route action says so that some requests go to the judge too, their answers to nobody."""
    canary = canary_of(view, pool)
    if canary is None or not canary.mirror:
        return {}
    fraction = {"numerator": round(canary.mirror * 10_000), "denominator": "TEN_THOUSAND"}
    return {
        "request_mirror_policies": [
            {
                "cluster": judge_cluster(protocol),
                "runtime_fraction": {"default_value": fraction},
                "disable_shadow_host_suffix_append": True,
            }
        ]
    }


def door(view: FleetView) -> Json:
    """The endpoints of the cluster `door`: none while clients are to go elsewhere."""
    own = {"endpoint": {"address": socket_address(view.local.front_door)}}
    return {
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "cluster_name": DOOR,
        "endpoints": [] if view.transition.closed else [{"lb_endpoints": [own]}],
    }
