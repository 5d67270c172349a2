"""Labels of Envoy's metrics: which pool, which class, and where to.

Envoy makes labels out of the parts of a statistic's name, and takes a cluster's name to have no dots. Without
these `cluster.model.m.grpc.upstream_rq_total` would be a metric of its own for each model.
(https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/metrics/v3/stats.proto#config-metrics-v3-tagspecifier)
"""

from __future__ import annotations

from serving.fleet import CLASSES
from serving.router.xds import Json

_POOL = r"(?:model|app|server)\.[^.]+\."
_CLASS = "|".join(CLASSES)
_ROUTE = r"^vhost\.[^.]+\.route\."


def config() -> Json:
    """The bootstrap's `stats_config`: a pattern's group 1 leaves the name, its group 2 is the label."""
    pool = r"((?:model|app|server)\.([^.]+)\.)"
    tags = {
        "pool": rf"^(?:cluster|vhost\.[^.]+\.route)\.{pool}",
        # Of routes: what a request asked for.
        "class": rf"{_ROUTE}{_POOL}(({_CLASS})\.)",
        # Of clusters: to this site's own part, by protocol; `.local`: what another site has sent; by class:
        # to other sites by shares; `at.` and a site: to that one.
        "way": rf"^cluster\.{_POOL}(((?:http|grpc)(?:\.local)?|{_CLASS}|at\.[^.]+)\.)",
        # Of the clusters that stand for a refusal.
        "reason": r"^cluster\.refused\.((full|late)\.)",
    }
    return {"stats_tags": [{"tag_name": name, "regex": pattern} for name, pattern in tags.items()]}
