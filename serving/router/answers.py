"""What the front door answers by itself: that it lives, the list of models, and refusals.

Refusals are written as plain sentences; `replies` puts them into the style of the API that was called.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from serving.fleet import ALIASES
from serving.router import protocol
from serving.router.clusters import readiness_path
from serving.router.view import FleetView
from serving.router.xds import Json, equals, grpc_methods, path_regex, set_header

_PERMISSION_DENIED, _NOT_FOUND = "7", "5"
_MANAGEMENT = "Model and server management is not open through the front door; it belongs to the site."


def own(view: FleetView) -> Iterator[Json]:
    """That it lives, and the list of models as OpenAI gives it: apps, their aliases, cards."""
    yield _answer({"path": "/healthz"}, {"status": "ok", "site": view.local.name})
    entries = [
        {"id": name, "object": "model", "created": 0, "owned_by": "headend"}
        for name in (*view.apps, *_aliases(view), *view.models)
    ]
    get = [equals(":method", "GET")]
    yield _answer({"path": "/v1/models", "headers": get}, {"object": "list", "data": entries})
    for entry in entries:
        yield _answer({"path": f"/v1/models/{entry['id']}", "headers": get}, entry)
    known = ", ".join(str(entry["id"]) for entry in entries)
    yield refuse(
        {"prefix": "/v1/models/", "headers": get}, 404, f"There is no such model. Known here: {known}."
    )


def _aliases(view: FleetView) -> list[str]:
    return [alias for alias, app in ALIASES.items() if app in view.apps]


def management() -> Iterator[Json]:
    """Calls that belong to the site's agent alone."""
    for path in protocol.MANAGEMENT_PATHS:
        yield refuse(path_regex(path), 403, _MANAGEMENT)
    methods = grpc_methods(*protocol.MANAGEMENT_METHODS)
    yield refuse(methods, 403, _MANAGEMENT, _PERMISSION_DENIED)


def draining(view: FleetView) -> Iterator[Json]:
    """To other front doors, which ask whether this site is ready: no. Requests on their way are answered."""
    for pool in view.pools:
        if view.local.answers(pool):
            yield refuse(
                {"path": readiness_path(pool)}, 503, f"Site {view.local.name} is draining; ask another one."
            )


def unknown(view: FleetView) -> Iterator[Json]:
    """Whatever no route before has taken."""
    known = f"Known models: {', '.join(view.models)}."
    yield refuse(
        grpc_methods(*protocol.MODEL_METHODS),
        404,
        f"There is no such model. {known}",
        _NOT_FOUND,
    )
    for model in view.models:
        yield refuse(
            {"path_separated_prefix": f"/v2/models/{model}"}, 404, f"Model {model} has nothing at this path."
        )
    yield refuse({"prefix": "/v2/models/"}, 404, f"There is no such model. {known}")
    yield refuse({"path_separated_prefix": "/v1"}, 404, f"Nothing answers here. {_v1_paths(view)}")
    yield refuse(
        {"prefix": "/"},
        404,
        "Nothing answers here. The front door takes OpenAI's API under /v1, the Open Inference Protocol "
        "under /v2 and over gRPC, and /healthz and /readyz.",
    )


def _v1_paths(view: FleetView) -> str:
    paths = {"subtitles": "POST /v1/audio/transcriptions", "review": "POST /v1/moderations"}
    return f"This fleet has {', '.join([*(paths[app] for app in view.apps), 'GET /v1/models'])}."


def _answer(match: Json, body: Json) -> Json:
    return {"match": match, "direct_response": {"status": 200, "body": {"inline_string": json.dumps(body)}}}


def refuse(match: Json, status: int, sentence: str, grpc_status: str | None = None) -> Json:
    """An error with `sentence`; to gRPC with `grpc_status`, where Envoy would make another of `status`."""
    return {
        "match": match,
        "direct_response": {"status": status, "body": {"inline_string": sentence}},
        **({"response_headers_to_add": [set_header("grpc-status", grpc_status)]} if grpc_status else {}),
    }
