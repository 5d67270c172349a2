"""How a front door finds out that an endpoint is down: probes, and requests that got no answer at all."""

from __future__ import annotations

from serving.router.view import Pool
from serving.router.xds import Json

HEALTH_INTERVAL = "1.5s"
"""Each probe costs Triton a fraction of a millisecond; retries cover the time until a probe notices."""
AGAIN_AFTER = "0.2s"
"""After a first probe without an answer; the second one decides."""
UNUSED_INTERVAL = "10s"
"""Between probes of healthy endpoints at other sites that were never asked: most of a large fleet."""
HEALTH_TIMEOUT = "1.5s"
"""Two such probes, and others are asked first: within 5 s of the moment at which a server fell silent."""
LATE_TIMEOUT = "5s"
"""Where nobody else is there to ask: a busy machine answers late, and late is not dead."""
PEER_INTERVAL = "1s"
"""Of other sites: with two probes and their jitter, one that has fallen silent is left out within 4.5 s."""
SERVER_KEEPALIVE = {"interval": "30s", "timeout": "10s"}
"""HTTP/2 pings to the site's own servers; gRPC's library closes connections that ping more often."""
PEER_KEEPALIVE = {"interval": "1s", "timeout": "3s"}
"""HTTP/2 pings between sites. Of one that has fallen silent (its link is a black hole, its Envoy hangs) the
connections are reset within about 4 s, and what was under way there is asked of another. A site that is busy
answers: pings are the business of Envoy's threads, whatever the models do."""


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


def health_check(pool: Pool, *, peers: bool = False, timeout: str = HEALTH_TIMEOUT) -> Json:
    """A cluster's settings for probing; `peers`: all its endpoints are other sites."""
    probe = {
        "timeout": timeout,
        "interval": PEER_INTERVAL if peers else HEALTH_INTERVAL,
        "interval_jitter_percent": 20,
        "unhealthy_edge_interval": AGAIN_AFTER,
        # Without it, what nobody has used yet is probed once a minute, and is not known to have come up.
        "no_traffic_interval": HEALTH_INTERVAL,
        "no_traffic_healthy_interval": UNUSED_INTERVAL if peers else HEALTH_INTERVAL,
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "http_health_check": {"path": readiness_path(pool), "host": pool.name},
    }
    # Endpoints count as unready until the first probe says otherwise, and leave without waiting for one.
    return {"health_checks": [probe], "ignore_health_on_host_removal": True}


def outlier_detection() -> Json:
    """A cluster's settings for ejecting a host that cannot be talked to before the next probe says so.

    Error answers do not eject: a full queue is load, and a 500 may be the request's fault.
    """
    return {
        "outlier_detection": {
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
    }
