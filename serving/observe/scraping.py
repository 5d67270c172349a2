"""Where Prometheus reads a fleet's metrics: its scrape configuration, derived from what runs.

Three sources at each site, all on loopback: Envoy's administration, Triton, and the agent. So a Prometheus
runs on each machine that has sites (and hands on what it reads, by `remote_write` or federation). Series get
the labels `fleet` and `site`, and the same `pool` whichever source they are from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from serving.site.spec import SiteSpec

Json = dict[str, Any]

SCRAPE_S = 5
"""Shorter than the time in which the fleet reacts to a loss would show more than anybody looks at."""

_PATHS = {"envoy-admin": "/stats/prometheus", "triton-metrics": "/metrics", "agent-http": "/metrics"}
"""Where metrics are, by the port as `<part>-<purpose>`."""

_POOL_OF = {"model": "(.+)", "pool": r"(?:model|app|server)\.(.+)"}
"""How Triton and the agent name a pool: label, and its form. Envoy's metrics have `pool` already."""


def scrape_config(specs: Iterable[SiteSpec]) -> Json:
    """Prometheus' configuration file for these sites; one job for each kind of source."""
    specs = list(specs)
    jobs = (_job(port, path, specs) for port, path in _PATHS.items())
    return {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
        "rule_files": ["alerts.yaml"],
        "scrape_configs": [job for job in jobs if job["static_configs"]],
    }


def _job(port: str, path: str, specs: list[SiteSpec]) -> Json:
    return {
        "job_name": f"headend-{port.partition('-')[0]}",
        "metrics_path": path,
        "static_configs": list(_targets(port, specs)),
        "metric_relabel_configs": [
            {"source_labels": [label], "regex": pattern, "target_label": "pool", "replacement": "$1"}
            for label, pattern in _POOL_OF.items()
        ],
    }


def _targets(port: str, specs: list[SiteSpec]) -> Iterator[Json]:
    for spec in specs:
        if found := spec.ports.get(port):
            yield {"targets": [f"127.0.0.1:{found}"], "labels": {"fleet": spec.fleet, "site": spec.site}}
