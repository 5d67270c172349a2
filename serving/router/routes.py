"""Envoy's routes: which pool a request belongs to, and how it is carried there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from serving.router import answers, canary, overflow, protocol
from serving.router.clusters import AGENT, Protocol, Scope, cluster_name, readiness_path
from serving.router.view import FleetView, Pool
from serving.router.xds import (
    Json,
    equals,
    extension,
    grpc_methods,
    has,
    path_regex,
    per_route,
    set_header,
    unless,
)

MODEL_HEADER = "x-headend-model"
"""Names the model of a gRPC call; set by the front door from the message unless the client has set it."""
HOP_HEADER = "x-headend-hop"
"""Present on what has come from another site: such a request goes no further."""
SITE_HEADER = "x-headend-site"
"""On answers: the site that gave them."""

REPLAY_BYTES = 16 * 1024 * 1024
"""A request body up to this size is kept until its answer begins, so that another site can be asked;
a larger one streams through and is retried only while no more than this of it has been sent."""
AGENT_TIMEOUT = "5s"
"""Agents ask again in half a second, and do not wait for an answer so late."""
STREAM_MAX_AGE = "3600s"
"""A bidirectional stream stays on one host for life, so its life is bounded; clients reopen it."""

_APP_MATCHES: dict[str, Json] = {
    "subtitles": {"prefix": "/v1/audio/"},
    "review": {"path": "/v1/moderations"},
}
_LOST = "connect-failure,refused-stream,reset"
"""Ways of getting no answer at all."""
_RETRY = "envoy.extensions.retry"
_BACK_OFF = {"base_interval": "0.005s", "max_interval": "0.1s"}
_NO_SUCH_MODEL = equals("grpc-status", "5")


def front_door(view: FleetView) -> Json:
    """Routes of the listener that clients use."""
    arrived = [has(HOP_HEADER)]
    return _configuration(
        "front-door",
        [
            *answers.own(view),
            *answers.management(),
            *_pool_routes(view, "local", arrived),
            answers.refuse(
                {"prefix": "/", "headers": arrived},
                503,
                f"Site {view.local.name} does not serve this, and what came from elsewhere goes no further.",
            ),
            *_pool_routes(view, "fleet", []),
            *answers.unknown(view),
        ],
        {
            "response_headers_to_add": [set_header(SITE_HEADER, "%METADATA(UPSTREAM_HOST:headend:site)%")],
            # `x-envoy-attempt-count`: load tests show how often the fleet had to ask again.
            "include_attempt_count_in_response": True,
        },
        overflow.specifiers(view),
    )


def peer(view: FleetView) -> Json:
    """Routes of the listener where other sites' front doors knock: to this site's own parts only."""
    readiness = [
        _forward(view, _Call({"path": readiness_path(pool)}), pool, "local")
        for pool in view.pools
        if pool.kind == "app" and view.local.answers(pool)
    ]
    return _configuration(
        "peer",
        [
            *answers.management(),
            *_agent(view),
            *(answers.draining(view) if view.transition.draining else readiness),
            *_pool_routes(view, "local", []),
            *answers.unknown(view),
        ],
        {"request_headers_to_add": [set_header(HOP_HEADER, "1")]},
    )


def _agent(view: FleetView) -> Iterator[Json]:
    """What agents of other sites tell this one's, and nothing else of what it answers."""
    if view.ports.agent:
        yield {
            "match": {"path_separated_prefix": "/-/agent"},
            "route": {"cluster": AGENT, "timeout": AGENT_TIMEOUT},
        }


def _configuration(name: str, routes: list[Json], headers: Json, specifiers: Sequence[Json] = ()) -> Json:
    return {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": name,
        # The list of models may outgrow Envoy's default of 4 KiB.
        "max_direct_response_body_size_bytes": 1 << 20,
        "virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes, **headers}],
        **({"cluster_specifier_plugins": list(specifiers)} if specifiers else {}),
    }


def _pool_routes(view: FleetView, scope: Scope, headers: list[Json]) -> Iterator[Json]:
    """Every pool's routes to its clusters of `scope`, for requests that match `headers` too."""
    for pool in view.pools:
        if scope == "fleet" or view.local.answers(pool):
            for call in _calls(pool):
                match = {**call.match, "headers": [*call.match.get("headers", ()), *headers]}
                yield _forward(view, call._replace(match=match), pool, scope)


class _Call(NamedTuple):
    """A kind of call, and what carrying it takes."""

    match: Json
    speaks: Protocol = "http"
    is_stream: bool = False
    is_unnamed: bool = False
    """The header does not name the model: the message has to be looked into, and the call routed anew."""
    is_sealed: bool = False
    """Nor can the message be looked into: the servers are asked in turn, until one knows the model."""


def _calls(pool: Pool) -> Iterator[_Call]:
    match pool.kind:
        case "app":
            yield _Call(_APP_MATCHES[pool.name])
        case "server":
            yield _Call(path_regex("|".join(protocol.SERVER_PATHS)))
            yield _Call(grpc_methods(*protocol.SERVER_METHODS), "grpc")
            unnamed = unless(has(MODEL_HEADER))
            compressed = [has("grpc-encoding"), unless(equals("grpc-encoding", "identity"))]
            yield from _model_calls([unnamed, *compressed], is_sealed=True)
            # What the message does not name either (statistics of all models) any server answers.
            yield from _model_calls([unnamed], is_unnamed=True)
        case "model":
            yield _Call(path_regex(protocol.model_path(pool.name)))
            yield from _model_calls([equals(MODEL_HEADER, pool.name)])


def _model_calls(headers: list[Json], **kind: bool) -> Iterator[_Call]:
    stream = {**grpc_methods(protocol.STREAM_METHOD), "headers": headers}
    yield _Call(stream, "grpc", is_stream=True, **kind)
    yield _Call({**grpc_methods(*protocol.MODEL_METHODS), "headers": headers}, "grpc", **kind)


def _forward(view: FleetView, call: _Call, pool: Pool, scope: Scope) -> Json:
    timeout = f"{view.limits.timeout_s}s"
    cluster = cluster_name(pool, call.speaks, scope)
    action: Json = {
        **(
            {"cluster_specifier_plugin": cluster}
            if scope == "fleet" and view.overflows(pool)
            else {"cluster": cluster}
        ),
        "retry_policy": _retries(view, call) if scope == "fleet" else _reconnects(),
        "timeout": timeout,
    }
    if call.is_stream:
        age = {"max_stream_duration": STREAM_MAX_AGE}
        action |= {"timeout": "0s", "idle_timeout": timeout, "max_stream_duration": age}
    elif scope == "fleet":
        action |= canary.copies(view, pool, call.speaks)
    return {
        "match": call.match,
        "metadata": {"filter_metadata": {"headend": {"pool": pool.name}}},
        "route": action,
        # The first message must be whole before the name in it can be read.
        "request_body_buffer_limit": body_limit(view) + (1 << 20) if call.is_unnamed else REPLAY_BYTES,
        "typed_per_filter_config": _filters(call),
    }


def _filters(call: _Call) -> Json:
    """Filters that differ from the listener's for this call."""
    look_inside = ("envoy.filters.http.grpc_field_extraction", "envoy.filters.http.lua")
    return {
        # A stream's body is all its messages, however many.
        **({"envoy.filters.http.body_size_limit": per_route(enabled=False)} if call.is_stream else {}),
        **({name: per_route(enabled=True) for name in look_inside} if call.is_unnamed else {}),
    }


def _retries(view: FleetView, call: _Call) -> Json:
    """Ask another site when this one has surely not answered: it is gone, or says that its queue is full.

    A request that timed out is not asked again: it may still hold a GPU.
    """
    return {
        "retry_on": f"{_LOST},retriable-status-codes,retriable-headers,unavailable,resource-exhausted",
        "retriable_status_codes": [503],
        "num_retries": max(2, len(view.others)),
        "retry_host_predicate": [
            extension(
                "envoy.retry_host_predicates.previous_hosts",
                f"{_RETRY}.host.previous_hosts.v3.PreviousHostsPredicate",
            )
        ],
        "host_selection_retry_max_attempts": 5,
        "retry_priority": extension(
            "envoy.retry_priorities.previous_priorities",
            f"{_RETRY}.priority.previous_priorities.v3.PreviousPrioritiesConfig",
            update_frequency=1,
        ),
        "retry_back_off": _BACK_OFF,
        **({"retriable_headers": [_NO_SUCH_MODEL]} if call.is_sealed else {}),
    }


def _reconnects() -> Json:
    """One more try at the only host: a kept-alive connection may close just as a request goes out on it."""
    return {
        "retry_on": _LOST,
        "num_retries": 1,
        "retry_back_off": _BACK_OFF,
    }


def body_limit(view: FleetView) -> int:
    """Largest request body, bytes; Envoy counts it in 32 bits."""
    return min(view.limits.body_mib << 20, (1 << 32) - (2 << 20))
