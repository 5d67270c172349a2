"""Models through `tritonclient.grpc`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import grpc
from tritonclient import grpc as triton
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from loadtests.campaign import Work
from loadtests.inputs.tensors import Judge, questions
from loadtests.results import Outcome
from loadtests.speakers.asking import Answer, Turns, answered, dialled, failed, guarded, identifying
from loadtests.speakers.tensors import read, written
from serving import trust

_CHANNEL = [
    ("grpc.max_send_message_length", 256 << 20),
    ("grpc.max_receive_message_length", 256 << 20),
    # Channels to one address share a connection otherwise, and no service shares another one's.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    # A front door that was down is asked again soon; gRPC's own pause grows to 120 s.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
_CLIENT_ERRORS = {
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "FAILED_PRECONDITION",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
}


class _Headers(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Keeps the headers of the last answer."""

    def __init__(self) -> None:
        self.last: dict[str, str] = {}

    def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Any], details: Any, request: Any
    ) -> Any:
        """Called by gRPC around each call."""
        call = continuation(details, request)
        # An answer without a message has its headers at its end.
        self.last = dict(call.initial_metadata() or ()) | dict(call.trailing_metadata() or ())
        return call


class _Client(triton.InferenceServerClient):  # type: ignore[misc]
    """Gives away the headers of answers.

    `tritonclient` keeps them to itself, and its constructor takes no channel. gRPC's interceptors see them;
    to place one, the channel and the stub are replaced right after the constructor made them. Those two are
    all that is touched: requests, calls and answers stay the client's own.
    """

    _channel: Any

    def __init__(self, address: str) -> None:
        self._closed = False
        host, secure = dialled(address)
        authorities = trust.authorities() if secure else None
        super().__init__(host, ssl=secure, root_certificates=authorities, channel_args=_CHANNEL)
        self.headers = _Headers()
        self._channel = grpc.intercept_channel(self._channel, self.headers)
        self._client_stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def close(self) -> None:
        """Once: `tritonclient` closes again when it is collected, and then gRPC, in a process that gevent has
        patched, waits for ever (its count of open channels goes wrong).
        """
        if not self._closed:
            self._closed = True
            super().close()


class TritonGrpcSpeaker:
    """`ModelInfer`."""

    def __init__(self, work: Work, address: str) -> None:
        """Raises `UsageError` when the model does not take the work's input."""
        self._model, self._timeout_s = work.pool, work.timeout_s
        self._headers = identifying(work)
        self._turns = _turns(work.pool, work.input, work.batch)
        self._client = _Client(address)

    def ask(self) -> Answer:
        """One inference."""
        tensors, judge = self._turns.next()
        client = self._client
        client.headers.last = {}
        try:
            result = client.infer(self._model, tensors, headers=self._headers, client_timeout=self._timeout_s)
        except InferenceServerException as error:
            code = str(error.status()).removeprefix("StatusCode.")
            return failed(
                _outcome(code, client.headers.last), f"{code}: {error.message()}", client.headers.last
            )
        return answered(guarded(lambda: judge(read(result))), client.headers.last)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


@cache
def _turns(model: str, name: str, batch: int) -> Turns[tuple[list[Any], Judge]]:
    return Turns([(written(triton, asked.tensors), asked.judge) for asked in questions(model, name, batch)])


def _outcome(code: str, headers: dict[str, str]) -> Outcome:
    """gRPC itself says UNAVAILABLE when it finds no connection; a server that says so sends headers."""
    if code == "DEADLINE_EXCEEDED":
        return "timeout"
    if code == "RESOURCE_EXHAUSTED" or (code == "UNAVAILABLE" and headers):
        return "refused"
    if code == "UNAVAILABLE":
        return "connection"
    return "client-error" if code in _CLIENT_ERRORS else "server-error"
