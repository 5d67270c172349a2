"""The panels as Grafana's dashboard model (https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from serving.observe.control import CONTROL, PLAN
from serving.observe.panel import Panel, Row
from serving.observe.traffic import COMPUTE, OVERVIEW, POOLS

Json = dict[str, Any]

ROWS = (OVERVIEW, POOLS, COMPUTE, PLAN, CONTROL)
"""In the order in which someone on call asks."""
_SCHEMA = 39
"""Grafana 10.4 and later; later ones migrate it as they load it."""
_SOURCE: Json = {"type": "prometheus", "uid": "${source}"}
_HEIGHT, _WIDTH = 8, 24
_CHOICES = {
    "site": 'label_values(up{job="headend-envoy"}, site)',
    "pool": "label_values(envoy_vhost_route_upstream_rq_total, pool)",
    "class": "label_values(envoy_vhost_route_upstream_rq_total, class)",
}


def dashboard(rows: Sequence[Row] = ROWS) -> Json:
    """The whole dashboard, to be imported into Grafana or provisioned as a file."""
    return {
        "uid": "headend",
        "title": "headend",
        "tags": ["headend"],
        "schemaVersion": _SCHEMA,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "graphTooltip": 1,
        "templating": {"list": [_source(), *(_choice(name, query) for name, query in _CHOICES.items())]},
        "panels": list(_laid_out(rows)),
    }


def _source() -> Json:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _choice(name: str, query: str) -> Json:
    everything = {"text": ["All"], "value": ["$__all"]}
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": everything,
        "sort": 1,
    }


def _laid_out(rows: Sequence[Row]) -> Iterator[Json]:
    """Panels from left to right and from top to bottom, below their row's title."""
    number = y = 0
    for row in rows:
        number += 1
        yield {"id": number, "type": "row", "title": row.title, "gridPos": _place(0, y, _WIDTH, 1)}
        x, y = 0, y + 1
        for panel in row.panels:
            if x + panel.width > _WIDTH:
                x, y = 0, y + _HEIGHT
            number += 1
            yield {"id": number, **_panel(panel), "gridPos": _place(x, y, panel.width, _HEIGHT)}
            x += panel.width
        y += _HEIGHT


def _place(x: int, y: int, width: int, height: int) -> Json:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel) -> Json:
    custom: Json = {"fillOpacity": 20 if panel.stacked else 0, "showPoints": "never"}
    if panel.stacked:
        custom["stacking"] = {"mode": "normal"}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend, "datasource": _SOURCE}
            for index, (query, legend) in enumerate(panel.queries)
        ],
    }
