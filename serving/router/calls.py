"""The kinds of calls that the Open Inference Protocol knows, and what carrying each takes."""

from __future__ import annotations

from typing import NamedTuple

from serving.router import protocol
from serving.router.endpoints import Protocol
from serving.router.xds import Json, equals, grpc_method, grpc_methods, has, path_regex, unless

MODEL_HEADER = "x-headend-model"
"""Names the model of a gRPC call; set by the front door from the message unless the client has set it."""


class Call(NamedTuple):
    """A kind of call, and what carrying it takes."""

    match: Json
    speaks: Protocol = "http"
    is_stream: bool = False
    is_unnamed: bool = False
    """The header does not name the model: the message has to be looked into, and the call routed anew."""
    is_sealed: bool = False
    """Nor can the message be looked into: the servers are asked in turn, until one knows the model."""
    names_class: bool = True
    is_question: bool = False
    """It makes no work: it is answered here, whatever is in flight."""


def _model_calls(*headers: Json, **kind: bool) -> list[Call]:
    infer, stream = protocol.INFER_METHOD, protocol.STREAM_METHOD
    questions = grpc_methods(*(each for each in protocol.MODEL_METHODS if each not in (infer, stream)))
    found = [
        Call(grpc_method(infer), "grpc", **kind),
        Call(grpc_method(stream), "grpc", is_stream=True, **kind),
        Call(questions, "grpc", is_question=True, **kind),
    ]
    return [call._replace(match={**call.match, "headers": list(headers)}) for call in found]


MODEL_CALLS = _model_calls()
_UNNAMED = unless(has(MODEL_HEADER))
_COMPRESSED = (has("grpc-encoding"), unless(equals("grpc-encoding", "identity")))
SERVER_CALLS = [
    Call(path_regex("|".join(protocol.SERVER_PATHS))),
    Call(grpc_methods(*protocol.SERVER_METHODS), "grpc"),
]
UNNAMED_CALLS = [
    *_model_calls(_UNNAMED, *_COMPRESSED, is_sealed=True),
    # What the message does not name either (statistics of all models) any server answers.
    *_model_calls(_UNNAMED, is_unnamed=True),
]
