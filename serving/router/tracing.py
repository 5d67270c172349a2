"""Envoy's part of a trace: a span for each request that comes in and for each attempt that goes out.

The trace is that of the request's `traceparent` (https://www.w3.org/TR/trace-context/), whose sampling
decision holds; a request without one gets a new trace by the fleet's `sampling`. Envoy posts spans in the
background and drops them when the collector does not take them: requests never wait for it.
"""

from __future__ import annotations

from serving.fleet import Tracing
from serving.router.view import Address, FleetView
from serving.router.xds import Json, extension, socket_address

_CLUSTER = "tracing"
_OTEL = "envoy.extensions.tracers.opentelemetry"


def of_listener(view: FleetView, *, begins: bool) -> Json:
    """The `tracing` field of a connection manager; empty where the fleet declares no tracing.

    `begins`: a request without a trace may get one here. Else (at the peer listener) only traces that began
    at another front door go on.
    """
    if view.tracing is None:
        return {}
    name = "%METADATA(ROUTE:headend:pool)%/%METADATA(ROUTE:headend:class)%"
    settings = {
        "provider": _provider(view, view.tracing, view.tracing.sampling if begins else 0.0),
        "spawn_upstream_span": True,
        "operation": f"{name}/{view.local.name}",
        "upstream_operation": f"{name}/%METADATA(UPSTREAM_HOST:headend:site)%",
        "custom_tags": [
            {"tag": "headend.site", "literal": {"value": view.local.name}},
            _of_metadata("headend.pool", "route", "pool"),
            _of_metadata("headend.class", "route", "class"),
            _of_metadata("headend.upstream_site", "host", "site"),
        ],
    }
    return {"tracing": settings}


def clusters(view: FleetView) -> list[Json]:
    """Where the collector is."""
    if view.tracing is None:
        return []
    host, port = view.tracing.address
    endpoint = {"endpoint": {"address": socket_address(Address(host, port))}}
    return [
        {
            "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            "name": _CLUSTER,
            "type": "STRICT_DNS",
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": _CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
        }
    ]


def _provider(view: FleetView, tracing: Tracing, share: float) -> Json:
    resource = extension(
        "envoy.tracers.opentelemetry.resource_detectors.static_config",
        f"{_OTEL}.resource_detectors.v3.StaticConfigResourceDetectorConfig",
        attributes={"service.namespace": view.fleet, "service.instance.id": view.local.name},
    )
    return extension(
        "envoy.tracers.opentelemetry",
        "envoy.config.trace.v3.OpenTelemetryConfig",
        service_name="headend-front-door",
        resource_detectors=[resource],
        sampler=_sampler(share),
        http_service={"http_uri": {"uri": tracing.url, "cluster": _CLUSTER, "timeout": "5s"}},
    )


def _sampler(share: float) -> Json:
    """As the request's own trace says; else `share` of the traces, chosen by their ids.

    Envoy's own decision (`random_sampling`, by default always) would be made anew by every front door on the
    way, and only traces that all of them chose would be whole.
    """
    percentage = {"numerator": round(share * 1_000_000), "denominator": "MILLION"}
    by_id = extension(
        "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based",
        f"{_OTEL}.samplers.v3.TraceIdRatioBasedSamplerConfig",
        sampling_percentage=percentage,
    )
    return extension(
        "envoy.tracers.opentelemetry.samplers.parent_based",
        f"{_OTEL}.samplers.v3.ParentBasedSamplerConfig",
        wrapped_sampler=by_id,
    )


def _of_metadata(tag: str, kind: str, field: str) -> Json:
    key = {"key": "headend", "path": [{"key": field}]}
    return {"tag": tag, "metadata": {"kind": {kind: {}}, "metadata_key": key}}
