"""What a panel is, and the pieces that its PromQL is made of.

Metrics are Envoy's own (https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/upstream/cluster_manager/cluster_stats),
Triton's (`nv_…`) and the agent's (`headend_…`). Labels `pool`, `class`, `way` and `reason` are Envoy's
(`serving.router.stats`), `site` is the scrape configuration's (`scraping`); `$site`, `$pool` and `$class` are
the dashboard's choices.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW = "[$__rate_interval]"
AT = 'site=~"$site"'
OF = f'{AT}, pool=~"$pool"'
PROBED = 'way!~".*[.]local"'
"""Clusters whose members are asked whether they are ready."""
LISTENER = 'envoy_http_conn_manager_prefix="front-door"'
CLASS = 'class=~"$class"'
DOOR = f'{OF}, {CLASS}, envoy_virtual_host="front-door"'


@dataclass(frozen=True)
class Panel:
    """One picture: what it asks, and what the answer means to someone who has been woken up."""

    title: str
    about: str
    queries: tuple[tuple[str, str], ...]
    """PromQL, and how a series is called in the legend."""
    unit: str = "reqps"
    """Grafana's name of the unit."""
    kind: str = "timeseries"
    width: int = 8
    """Of 24."""
    stacked: bool = False


@dataclass(frozen=True)
class Row:
    """Panels that answer one question."""

    title: str
    panels: tuple[Panel, ...]


def rate(metric: str, labels: str, *by: str) -> str:
    """What a counter grows by a second, added up by labels."""
    return f"sum by ({', '.join(by)}) (rate({metric}{{{labels}}}{WINDOW}))"


def quantile(share: float, *by: str) -> str:
    """Response time at the front door that `share` of the requests did not exceed, milliseconds."""
    buckets = rate("envoy_vhost_route_upstream_rq_time_bucket", DOOR, *by, "le")
    return f"histogram_quantile({share}, {buckets})"


def mean_ms(metric: str) -> str:
    """Milliseconds of one kind for each request that Triton has answered."""
    answered = rate("nv_inference_request_success", OF, "site", "pool")
    return f"{rate(metric, OF, 'site', 'pool')} / {answered} / 1000"
