"""What Envoy says by itself, in the style of the API that was called (Envoy's local replies).

Under `/v1` errors look like OpenAI's, under `/v2` and elsewhere like the Open Inference Protocol's
(`{"error": …}`), and to gRPC they are a status with a sentence.
"""

from __future__ import annotations

from serving.router.view import FleetView
from serving.router.xds import Json, set_header


def local_replies(view: FleetView) -> Json:
    """Envoy's `LocalReplyConfig`: the first mapper whose filter matches shapes the reply."""
    mappers = [_good()]
    for condition, sentence, grpc_status in _troubles(view):
        mappers += [
            _mapper([_grpc(), condition], sentence, _TEXT, grpc_status),
            _mapper([_path("/v1/"), condition, _status("GE", 500)], sentence, _openai("server_error")),
            _mapper([_path("/v1/"), condition], sentence, _openai(_INVALID)),
            _mapper([condition], sentence, _OPEN_INFERENCE),
        ]
    mappers += [
        _mapper([_grpc()], None, _TEXT),
        _mapper([_path("/v1/models/"), _status("EQ", 404)], None, _openai(_INVALID, "model_not_found")),
        _mapper([_path("/v1/"), _status("GE", 500)], None, _openai("server_error")),
        _mapper([_path("/v1/")], None, _openai(_INVALID)),
    ]
    return {"mappers": mappers, "body_format": _OPEN_INFERENCE}


_INVALID = "invalid_request_error"
_TEXT: Json = {"text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}}
_OPEN_INFERENCE: Json = {"json_format": {"error": "%LOCAL_REPLY_BODY%"}}


def _openai(kind: str, code: str | None = None) -> Json:
    fields = {"message": "%LOCAL_REPLY_BODY%", "type": kind, "param": None, "code": code}
    return {"json_format": {"error": fields}}


def _troubles(view: FleetView) -> list[tuple[Json, str, str | None]]:
    """What Envoy finds out by itself: condition, sentence, and the gRPC status where Envoy's own misleads."""
    limits = view.limits
    return [
        (
            _flags("UH"),
            "No site can answer this at the moment: every place that serves it is down or not ready.",
            None,
        ),
        (
            _flags("UO"),
            "Every place that may take this is full; ask again shortly.",
            "8",
        ),
        (_flags("UF", "UC", "UR", "LR"), "The connection to the site broke before it had answered.", None),
        (_flags("UT", "SI", "UMSDR", "DT"), f"No answer within {limits.timeout_s:g} seconds.", "4"),
        (_status("EQ", 413), f"The request body is larger than {limits.body_mib} MiB.", "8"),
        (
            _status("EQ", 400),
            "This request cannot be understood: look at its path, headers and message.",
            None,
        ),
    ]


def _good() -> Json:
    """Envoy's own good answers are JSON already."""
    return _mapper([_status("LE", 399)], None, {**_TEXT, "content_type": "application/json"})


def _mapper(
    conditions: list[Json], sentence: str | None, shape: Json, grpc_status: str | None = None
) -> Json:
    return {
        "filter": conditions[0] if len(conditions) == 1 else {"and_filter": {"filters": conditions}},
        **({"body": {"inline_string": sentence}} if sentence else {}),
        "body_format_override": shape,
        **({"headers_to_add": [set_header("grpc-status", grpc_status)]} if grpc_status else {}),
    }


def _grpc() -> Json:
    return _header("content-type", "application/grpc")


def _path(prefix: str) -> Json:
    return _header(":path", prefix)


def _header(name: str, prefix: str) -> Json:
    return {"header_filter": {"header": {"name": name, "string_match": {"prefix": prefix}}}}


def _flags(*flags: str) -> Json:
    return {"response_flag_filter": {"flags": list(flags)}}


def _status(op: str, code: int) -> Json:
    value = {"default_value": code, "runtime_key": "headend.none"}
    return {"status_code_filter": {"comparison": {"op": op, "value": value}}}
