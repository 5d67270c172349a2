"""What the front door answers by itself: that it lives, the list of models, and refusals.

Refusals are written as plain sentences; `replies` puts them into the style of the API that was called.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from serving.fleet import ALIASES, CLASS_HEADER, CLASSES, DEADLINE_HEADER
from serving.router import access, protocol
from serving.router.health import readiness_path
from serving.router.view import FleetView, Pool
from serving.router.xds import Json, equals, grpc_methods, has, path_regex, set_header, unless

_NOT_FOUND, _PERMISSION_DENIED = "5", "7"
_MANAGEMENT = "Model and server management is not open through the front door; it belongs to the site."


def own(view: FleetView) -> Iterator[Json]:
    """That it lives, and the list of models as OpenAI gives it: apps, their aliases, cards."""
    health = _answer({"path": "/healthz"}, {"status": "ok", "site": view.local.name})
    yield {**health, **({"typed_per_filter_config": access.open_to_all(view)} if view.access else {})}
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


def denied() -> Json:
    """To a caller without the role for what it asks."""
    return refuse({"prefix": "/"}, 403, access.DENIED)


def draining(view: FleetView, pool: Pool) -> Json:
    """To other front doors, which ask whether this site is ready: no. Requests on their way are answered."""
    return refuse(
        {"path": readiness_path(pool)}, 503, f"Site {view.local.name} is draining; ask another one."
    )


def unknown(view: FleetView) -> list[Json]:
    """Paths and methods of an API that no route before has taken."""
    known = f"Known models: {', '.join(view.models)}."
    return [
        refuse(grpc_methods(*protocol.MODEL_METHODS), 404, f"There is no such model. {known}", _NOT_FOUND),
        refuse({"prefix": "/v2/models/"}, 404, f"There is no such model. {known}"),
        refuse({"path_separated_prefix": "/v1"}, 404, f"Nothing answers here. {_v1_paths(view)}"),
    ]


def nothing_at(model: str) -> Json:
    """For paths below a model's that are none of its own."""
    match = {"path_separated_prefix": f"/v2/models/{model}"}
    return refuse(match, 404, f"Model {model} has nothing at this path.")


def invalid() -> list[Json]:
    """Headers that say nothing: a class that there is not, a deadline that is no number."""
    classes = {"name": CLASS_HEADER, "string_match": {"safe_regex": {"regex": "|".join(CLASSES)}}}
    deadline = {"name": DEADLINE_HEADER, "string_match": {"safe_regex": {"regex": "[1-9][0-9]{0,8}"}}}
    return [
        refuse(
            {"prefix": "/", "headers": [has(CLASS_HEADER), unless(classes)]},
            400,
            f"There is no such class: {CLASS_HEADER} is {', '.join(CLASSES[:-1])} or {CLASSES[-1]}.",
        ),
        refuse(
            {"prefix": "/", "headers": [has(DEADLINE_HEADER), unless(deadline)]},
            400,
            f"{DEADLINE_HEADER} is a whole number of milliseconds from now, as in 1500.",
        ),
    ]


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
