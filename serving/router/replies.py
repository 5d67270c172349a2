"""What Envoy says by itself, in the style of the API that was called (Envoy's local replies).

Under `/v1` errors look like OpenAI's, under `/v2` and elsewhere like the Open Inference Protocol's
(`{"error": …}`), and to gRPC they are a status with a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from serving.router import access
from serving.router.view import FleetView
from serving.router.xds import Json, extension, set_header

REFUSED_HEADER = "x-headend-refused"
"""On answers that nobody has begun to work on: `full` or `late`. Another site may be asked."""


def local_replies(view: FleetView) -> Json:
    """Envoy's `LocalReplyConfig`: the first mapper whose filter matches shapes the reply."""
    mappers = [_good()]
    for each in _troubles(view):
        mappers += [
            each.mapper([_grpc()], _TEXT),
            each.mapper([_path("/v1/"), _status("GE", 500)], _openai("server_error")),
            each.mapper([_path("/v1/")], _openai(_INVALID)),
            each.mapper([], _OPEN_INFERENCE),
        ]
    mappers += [
        {
            **_mapper([_grpc(), _status("EQ", 400)], None, _TEXT),
            "headers_to_add": [set_header("grpc-status", _INVALID_ARGUMENT)],
        },
        _mapper([_grpc()], None, _TEXT),
        _mapper([_path("/v1/models/"), _status("EQ", 404)], None, _openai(_INVALID, "model_not_found")),
        _mapper([_path("/v1/"), _status("GE", 500)], None, _openai("server_error")),
        _mapper([_path("/v1/")], None, _openai(_INVALID)),
    ]
    return {"mappers": mappers, "body_format": _OPEN_INFERENCE}


_INVALID_ARGUMENT = "3"
_INVALID = "invalid_request_error"
_TEXT: Json = {"text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"}}
_OPEN_INFERENCE: Json = {"json_format": {"error": "%LOCAL_REPLY_BODY%"}}


def _openai(kind: str, code: str | None = None) -> Json:
    fields = {"message": "%LOCAL_REPLY_BODY%", "type": kind, "param": None, "code": code}
    return {"json_format": {"error": fields}}


class _Trouble(NamedTuple):
    """What Envoy finds out by itself."""

    condition: Json
    sentence: str
    grpc_status: str | None = None
    """Where Envoy's own misleads."""
    status: int | None = None
    """HTTP status, where Envoy's own misleads."""
    headers: Sequence[Json] = ()

    def mapper(self, callers: Sequence[Json], shape: Json) -> Json:
        """The reply to `callers`."""
        grpc = (
            set_header("grpc-status", self.grpc_status) if self.grpc_status and _grpc() in callers else None
        )
        return {
            **_mapper([*callers, self.condition], self.sentence, shape),
            **({"status_code": self.status} if self.status else {}),
            "headers_to_add": [*self.headers, *([grpc] if grpc else [])],
        }


def _troubles(view: FleetView) -> list[_Trouble]:
    limits = view.limits
    return [
        *(
            _Trouble(
                _expression(f"response.code_details.startsWith('{each.begin}')"),
                each.sentence,
                each.grpc_status,
                each.status,
                [set_header("retry-after", "1")] if each.grpc_status else [],
            )
            for each in access.refusals(view)
        ),
        _Trouble(
            _flags("UH"),
            "No site can answer this at the moment: every place that serves it is down or not ready.",
        ),
        _Trouble(
            _expression("xds.cluster_name == 'refused.late'"),
            "Refused at once: the answer would come after the request's deadline.",
            "4",
            504,
            [set_header(REFUSED_HEADER, "late")],
        ),
        _Trouble(
            _flags("UO"),
            "Every place that may take this is full; ask again shortly.",
            "8",
            429,
            [
                set_header(REFUSED_HEADER, "full"),
                set_header("retry-after", "%METADATA(ROUTE:headend:retry_after_s)%"),
            ],
        ),
        _Trouble(_flags("UF", "UC", "UR", "LR"), "The connection to the site broke before it had answered."),
        _Trouble(
            _any_of(_flags("UT", "SI", "UMSDR"), _status("EQ", 504), _status("EQ", 408)),
            f"No answer in time: within {limits.timeout_s:g} seconds, or the request's own deadline.",
            "4",
        ),
        _Trouble(
            _flags("NR"),
            "Nothing answers here. The front door takes OpenAI's API under /v1, the Open Inference Protocol "
            "under /v2 and over gRPC, and /healthz and /readyz.",
        ),
        _Trouble(_status("EQ", 413), f"The request body is larger than {limits.body_mib} MiB.", "8"),
        _Trouble(
            _expression("response.code == 400 && response.code_details != 'direct_response'"),
            "This request cannot be understood: look at its path, headers and message.",
            _INVALID_ARGUMENT,
        ),
    ]


def _good() -> Json:
    """Envoy's own good answers are JSON already."""
    return _mapper([_status("LE", 399)], None, {**_TEXT, "content_type": "application/json"})


def _mapper(conditions: list[Json], sentence: str | None, shape: Json) -> Json:
    return {
        "filter": conditions[0] if len(conditions) == 1 else {"and_filter": {"filters": conditions}},
        **({"body": {"inline_string": sentence}} if sentence else {}),
        "body_format_override": shape,
    }


def _grpc() -> Json:
    return _header("content-type", "application/grpc")


def _path(prefix: str) -> Json:
    return _header(":path", prefix)


def _header(name: str, prefix: str) -> Json:
    return {"header_filter": {"header": {"name": name, "string_match": {"prefix": prefix}}}}


def _any_of(*conditions: Json) -> Json:
    return {"or_filter": {"filters": list(conditions)}}


def _flags(*flags: str) -> Json:
    return {"response_flag_filter": {"flags": list(flags)}}


def _expression(cel: str) -> Json:
    return {
        "extension_filter": extension(
            "envoy.access_loggers.extension_filters.cel",
            "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
            expression=cel,
        )
    }


def _status(op: str, code: int) -> Json:
    value = {"default_value": code, "runtime_key": "headend.none"}
    return {"status_code_filter": {"comparison": {"op": op, "value": value}}}
