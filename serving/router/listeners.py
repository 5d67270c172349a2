"""Envoy's listeners: the front door for clients, and the peer listener for other sites' front doors."""

from __future__ import annotations

from collections.abc import Callable

from serving.fleet import DEADLINE_HEADER, IDENTITY_HEADERS, PEER_HEADER, PEER_SERIAL_HEADER
from serving.router import access, canary, protocol, routes, scripts, tls, tracing
from serving.router.clusters import ready_clusters
from serving.router.replies import local_replies
from serving.router.view import LOOPBACK, Address, FleetView
from serving.router.xds import Json, equals, extension, set_header, socket_address, unless

_HTTP = "envoy.extensions.filters.http"


def listeners(
    view: FleetView, source: Callable[[str], Json], descriptors: str, access_log: str
) -> list[Json]:
    """The front door and the peer listener; where callers are asked who they are, a door for the site's own
    apps too.

    `source(name)` gives the config source of a file of routes, secrets or keys, `descriptors` is the path of
    the service's descriptor set, `access_log` the path of the access log (`/dev/stdout` to print it).
    """
    # The front door's routes say the site on answers, too: reading it there costs a tenth of the metadata.
    log = _access_log(view, access_log, f"%RESP({routes.SITE_HEADER})%")
    of_peers = _access_log(view, access_log, routes.SITE)

    def rds(name: str) -> Json:
        return {"route_config_name": name, "config_source": source(f"routes/{name}")}

    filters = [_body_limit(view), _deadline(), *_names(descriptors), _router()]
    guards = [_ready(view), *access.filters(view, lambda name: source(f"access/{name}"))]
    inside = [_ready(view), *filters]
    return [
        _listener(
            "front-door",
            view.local.front_door,
            _manager(view, "front-door", rds("front-door"), [*guards, *filters], log, _anonymous()),
            **tls.of_front_door(view, lambda name: source(f"secrets/{name}")),
        ),
        _listener(
            "peer",
            view.local.peer,
            _manager(view, "peer", rds("peer"), filters, of_peers, _peer(view)) | _bounded(view),
            **tls.of_listener(view, lambda name: source(f"secrets/{name}")),
        ),
        *(
            [
                _listener(
                    "inside",
                    Address(LOOPBACK, view.ports.inside),
                    _manager(view, "inside", rds("front-door"), inside, log, []),
                )
            ]
            if view.ports.inside
            else []
        ),
    ]


def _listener(name: str, at: Address, manager: Json, **chain: Json) -> Json:
    filters = [
        extension(
            "envoy.filters.network.http_connection_manager",
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            **manager,
        )
    ]
    return {
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": name,
        "address": socket_address(at),
        # A second Envoy on the same port must fail, not silently take half of the connections.
        "enable_reuse_port": False,
        "connection_balance_config": {"exact_balance": {}},
        "filter_chains": [{"filters": filters, **chain}],
    }


def _manager(
    view: FleetView,
    name: str,
    routes_from: Json,
    filters: list[Json],
    log: Json,
    headers: list[Json],
) -> Json:
    """HTTP on one listener; `headers`: changes made to a request's headers before anything looks at them."""
    return {
        "stat_prefix": name,
        # HTTP/1.1, HTTP/2 with prior knowledge and gRPC on one port.
        "codec_type": "AUTO",
        "rds": routes_from,
        "http_filters": filters,
        "access_log": [log],
        "local_reply_config": local_replies(view),
        "stream_idle_timeout": f"{view.limits.timeout_s}s",
        "request_headers_timeout": "10s",
        # `/v2/models/x/../../repository` is what it says it is not.
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        # Clients are outside: their x-envoy-* headers are dropped, their request ids kept for tracing.
        "use_remote_address": True,
        "preserve_external_request_id": True,
        **tracing.of_listener(view, begins=name != "peer"),
        **({"early_header_mutation_extensions": [_change(headers)]} if headers else {}),
    }


def _change(headers: list[Json]) -> Json:
    return extension(
        "envoy.http.early_header_mutation.header_mutation",
        "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=headers,
    )


def _anonymous() -> list[Json]:
    """What a client says of itself counts for nothing."""
    return [{"remove": name} for name in IDENTITY_HEADERS]


def _peer(view: FleetView) -> list[Json]:
    """Another site is believed what it says of its client; its own name its certificate says."""
    told = {
        PEER_HEADER: "%DOWNSTREAM_PEER_URI_SAN%",
        PEER_SERIAL_HEADER: "%DOWNSTREAM_PEER_SERIAL%",
    }
    shown = [{"append": set_header(name, value)} for name, value in told.items()]
    return [*({"remove": name} for name in told), *(shown if view.identity else [])]


def _bounded(view: FleetView) -> Json:
    """Connections of other sites end between requests, so that a revocation reaches them."""
    return {**tls.connection_life(view), "http1_safe_max_connection_duration": True} if view.identity else {}


def _ready(view: FleetView) -> Json:
    """`/readyz`: clients are welcome, and some endpoint of every pool is healthy, wherever it is."""
    needed = {canary.DOOR: 1, **dict(ready_clusters(view))}
    return extension(
        "envoy.filters.http.health_check",
        f"{_HTTP}.health_check.v3.HealthCheck",
        pass_through_mode=False,
        headers=[equals(":path", "/readyz")],
        cluster_min_healthy_percentages={name: {"value": least} for name, least in needed.items()},
    )


def _body_limit(view: FleetView) -> Json:
    return extension(
        "envoy.filters.http.body_size_limit",
        f"{_HTTP}.body_size_limit.v3.BodySizeLimit",
        max_request_bytes=routes.body_limit(view),
    )


def _deadline() -> Json:
    """A deadline that the request brings becomes Envoy's own timeout for it; gRPC's, Envoy knows itself."""
    timeout = {"key": "x-envoy-upstream-rq-timeout-ms", "value": f"%REQ({DEADLINE_HEADER})%"}
    return extension(
        "envoy.filters.http.header_mutation",
        f"{_HTTP}.header_mutation.v3.HeaderMutation",
        mutations={"request_mutations": [{"append": {"header": timeout}}]},
    )


def _names(descriptors: str) -> list[Json]:
    """What reads the model's name from a call's message, or a stream's first; only where a route asks for it
    (`routes.NAME_OF_CALL`, `routes.NAME_OF_STREAM`).

    A script reads it from a call's body, which costs a third of what field extraction does; but a script gets
    no body before it ends, and a stream's does not end.
    """
    extraction = extension(
        routes.NAME_OF_STREAM[0],
        f"{_HTTP}.grpc_field_extraction.v3.GrpcFieldExtractionConfig",
        descriptor_set={"filename": descriptors},
        extractions_by_method={
            f"{protocol.SERVICE}.{protocol.STREAM_METHOD}": {
                "request_field_extractions": {protocol.MODEL_METHODS[protocol.STREAM_METHOD]: {}}
            }
        },
    )
    readers = [
        scripts.http_filter(routes.NAME_OF_STREAM[1], "to_model", "stream_name"),
        scripts.http_filter(routes.NAME_OF_CALL[0], "to_model", "model_name"),
    ]
    return [{**each, "disabled": True} for each in (extraction, *readers)]


def _router() -> Json:
    return extension("envoy.filters.http.router", f"{_HTTP}.router.v3.Router", suppress_envoy_headers=True)


def _access_log(view: FleetView, path: str, upstream_site: str) -> Json:
    """One JSON object per request; no bodies, no query, and of the headers only the request's id."""
    fields = {
        "time": "%START_TIME%",
        "site": view.local.name,
        "request_id": "%REQ(X-REQUEST-ID)%",
        "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
        "hop": "%REQ(X-HEADEND-HOP)%",
        "tenant": "%REQ(X-HEADEND-TENANT)%",
        "key": "%REQ(X-HEADEND-KEY)%",
        "protocol": "%PROTOCOL%",
        "method": "%REQ(:METHOD)%",
        "path": "%PATH(NQ)%",
        # The name of a route is its pool's.
        "pool": "%ROUTE_NAME%",
        "class": "%METADATA(ROUTE:headend:class)%",
        "upstream_site": upstream_site,
        "upstream": "%UPSTREAM_HOST%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "status": "%RESPONSE_CODE%",
        "grpc_status": "%GRPC_STATUS_NUMBER%",
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "bytes_in": "%BYTES_RECEIVED%",
        "bytes_out": "%BYTES_SENT%",
        "duration_ms": "%DURATION%",
        "upstream_ms": "%RESPONSE_DURATION%",
    }
    probers = {"safe_regex": {"regex": "(Envoy/HC|headend-supervisor).*"}}
    log = extension(
        "envoy.access_loggers.file",
        "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        path=path,
        log_format={"json_format": fields},
    )
    return {
        **log,
        "filter": {"header_filter": {"header": unless({"name": "user-agent", "string_match": probers})}},
    }
