"""Envoy's routes: which pool a request belongs to, and what the front door answers by itself.

Refusals are written as plain sentences; `replies` puts them into the style of the API that was called.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from serving.router import protocol
from serving.router.clusters import Protocol, Scope, cluster_name, readiness_path
from serving.router.view import FleetView, Pool

Json = dict[str, Any]

MODEL_HEADER = "x-headend-model"
"""Names the model of a gRPC call; set by the front door from the message unless the client has set it."""
HOP_HEADER = "x-headend-hop"
"""Present on what has come from another site: such a request goes no further."""
SITE_HEADER = "x-headend-site"
"""On answers: the site that gave them."""

REPLAY_BYTES = 16 * 1024 * 1024
"""A request body up to this size is kept until its answer begins, so that another site can be asked;
a larger one streams through and is retried only while no more than this of it has been sent."""
STREAM_MAX_AGE = "3600s"
"""A bidirectional stream stays on one host for life, so its life is bounded; clients reopen it."""

_APP_MATCHES: dict[str, Json] = {
    "subtitles": {"prefix": "/v1/audio/"},
    "review": {"path": "/v1/moderations"},
}
_ALIASES = {"subtitles": "whisper-1", "review": "omni-moderation-latest"}
"""OpenAI's own model names, so that existing code runs."""
_LOST = "connect-failure,refused-stream,reset"
"""Ways of getting no answer at all."""
_BACK_OFF = {"base_interval": "0.005s", "max_interval": "0.1s"}
_NO_SUCH_MODEL = {"name": "grpc-status", "string_match": {"exact": "5"}}
_PERMISSION_DENIED, _NOT_FOUND = "7", "5"
_MANAGEMENT_SENTENCE = (
    "Model and server management is not open through the front door; it belongs to the site."
)


def front_door(view: FleetView) -> Json:
    """Routes of the listener that clients use."""
    arrived = [_header(HOP_HEADER)]
    return _configuration(
        "front-door",
        [
            *_answers(view),
            *_management(),
            *_pool_routes(view, "local", arrived),
            _refuse(
                {"prefix": "/", "headers": arrived},
                503,
                f"Site {view.local.name} does not serve this, and what came from elsewhere goes no further.",
            ),
            *_pool_routes(view, "fleet", []),
            *_unknown(view),
        ],
        {"response_headers_to_add": [_set(SITE_HEADER, "%METADATA(UPSTREAM_HOST:headend:site)%")]},
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
        [*_management(), *readiness, *_pool_routes(view, "local", []), *_unknown(view)],
        {"request_headers_to_add": [_set(HOP_HEADER, "1")]},
    )


def _configuration(name: str, routes: list[Json], headers: Json) -> Json:
    return {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": name,
        # The list of models may outgrow Envoy's default of 4 KiB.
        "max_direct_response_body_size_bytes": 1 << 20,
        "virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes, **headers}],
    }


def _answers(view: FleetView) -> Iterator[Json]:
    """What the front door answers by itself: that it lives, and the list of models."""
    yield _answer({"path": "/healthz"}, {"status": "ok", "site": view.local.name})
    entries = [
        {"id": name, "object": "model", "created": 0, "owned_by": "headend"}
        for name in (*view.apps, *(_ALIASES[app] for app in view.apps), *view.models)
    ]
    get = [{"name": ":method", "string_match": {"exact": "GET"}}]
    yield _answer({"path": "/v1/models", "headers": get}, {"object": "list", "data": entries})
    for entry in entries:
        yield _answer({"path": f"/v1/models/{entry['id']}", "headers": get}, entry)
    known = ", ".join(str(entry["id"]) for entry in entries)
    yield _refuse(
        {"prefix": "/v1/models/", "headers": get}, 404, f"There is no such model. Known here: {known}."
    )


def _management() -> Iterator[Json]:
    for path in protocol.MANAGEMENT_PATHS:
        yield _refuse(_regex(path), 403, _MANAGEMENT_SENTENCE)
    methods = {**_regex(_methods(protocol.MANAGEMENT_METHODS)), "grpc": {}}
    yield _refuse(methods, 403, _MANAGEMENT_SENTENCE, _PERMISSION_DENIED)


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
            yield _Call(_regex("|".join(protocol.SERVER_PATHS)))
            yield _Call({**_regex(_methods(protocol.SERVER_METHODS)), "grpc": {}}, "grpc")
            unnamed = {**_header(MODEL_HEADER), "invert_match": True}
            plain = {"name": "grpc-encoding", "string_match": {"exact": "identity"}}
            compressed = [_header("grpc-encoding"), {**plain, "invert_match": True}]
            yield from _model_calls([unnamed, *compressed], is_sealed=True)
            # What the message does not name either (statistics of all models) any server answers.
            yield from _model_calls([unnamed], is_unnamed=True)
        case "model":
            yield _Call(_regex(protocol.model_path(pool.name)))
            yield from _model_calls([{"name": MODEL_HEADER, "string_match": {"exact": pool.name}}])


def _model_calls(headers: list[Json], **kind: bool) -> Iterator[_Call]:
    stream = {"path": f"/{protocol.SERVICE}/{protocol.STREAM_METHOD}", "grpc": {}, "headers": headers}
    yield _Call(stream, "grpc", is_stream=True, **kind)
    unary = {**_regex(_methods(tuple(protocol.MODEL_METHODS))), "grpc": {}, "headers": headers}
    yield _Call(unary, "grpc", **kind)


def _unknown(view: FleetView) -> Iterator[Json]:
    known = f"Known models: {', '.join(view.models)}."
    yield _refuse(
        {**_regex(_methods(tuple(protocol.MODEL_METHODS))), "grpc": {}},
        404,
        f"There is no such model. {known}",
        _NOT_FOUND,
    )
    for model in view.models:
        yield _refuse(
            {"path_separated_prefix": f"/v2/models/{model}"}, 404, f"Model {model} has nothing at this path."
        )
    yield _refuse({"prefix": "/v2/models/"}, 404, f"There is no such model. {known}")
    yield _refuse({"path_separated_prefix": "/v1"}, 404, f"Nothing answers here. {_v1_paths(view)}")
    yield _refuse(
        {"prefix": "/"},
        404,
        "Nothing answers here. The front door takes OpenAI's API under /v1, the Open Inference Protocol "
        "under /v2 and over gRPC, and /healthz and /readyz.",
    )


def _v1_paths(view: FleetView) -> str:
    paths = {"subtitles": "POST /v1/audio/transcriptions", "review": "POST /v1/moderations"}
    return f"This fleet has {', '.join([*(paths[app] for app in view.apps), 'GET /v1/models'])}."


def _forward(view: FleetView, call: _Call, pool: Pool, scope: Scope) -> Json:
    timeout = f"{view.limits.timeout_s}s"
    action: Json = {
        "cluster": cluster_name(pool, call.speaks, scope),
        "retry_policy": _retries(view, call) if scope == "fleet" else _reconnects(),
        "timeout": timeout,
    }
    if call.is_stream:
        age = {"max_stream_duration": STREAM_MAX_AGE}
        action |= {"timeout": "0s", "idle_timeout": timeout, "max_stream_duration": age}
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
        **({"envoy.filters.http.body_size_limit": _filter(enabled=False)} if call.is_stream else {}),
        **({name: _filter(enabled=True) for name in look_inside} if call.is_unnamed else {}),
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
            _extension("retry_host_predicates", "previous_hosts", "PreviousHostsPredicate")
        ],
        "host_selection_retry_max_attempts": 5,
        "retry_priority": _extension(
            "retry_priorities", "previous_priorities", "PreviousPrioritiesConfig", update_frequency=1
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


def _answer(match: Json, body: Json) -> Json:
    return {"match": match, "direct_response": {"status": 200, "body": {"inline_string": json.dumps(body)}}}


def _refuse(match: Json, status: int, sentence: str, grpc_status: str | None = None) -> Json:
    """`grpc_status` replaces what Envoy would make of `status` when the caller speaks gRPC."""
    return {
        "match": match,
        "direct_response": {"status": status, "body": {"inline_string": sentence}},
        **({"response_headers_to_add": [_set("grpc-status", grpc_status)]} if grpc_status else {}),
    }


def _regex(pattern: str) -> Json:
    return {"safe_regex": {"regex": pattern}}


def _methods(names: tuple[str, ...]) -> str:
    return f"/{protocol.SERVICE.replace('.', '[.]')}/({'|'.join(names)})"


def _header(name: str) -> Json:
    return {"name": name, "present_match": True}


def _set(name: str, value: str) -> Json:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _filter(*, enabled: bool) -> Json:
    state: Json = {"config": {}} if enabled else {"disabled": True}
    return {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", **state}


def _extension(family: str, name: str, message: str, **fields: Any) -> Json:
    package = f"envoy.extensions.retry.{'host' if 'host' in family else 'priority'}.{name}.v3"
    return {
        "name": f"envoy.{family}.{name}",
        "typed_config": {"@type": f"type.googleapis.com/{package}.{message}", **fields},
    }
