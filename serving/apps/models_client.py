"""How apps call models: through the site's own front door, by gRPC with binary tensors.

The front door answers from the other site when this one's Triton is down, so an app needs no list of servers.
One `ModelsClient` belongs to one event loop and keeps one channel: gRPC multiplexes all requests over it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from opentelemetry.trace import NoOpTracer, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from serving.apps.errors import AppError, ModelUnavailableError
from serving.apps.onward import Onward
from serving.fleet import DEFAULT_CLASS, PRIORITY

Array = npt.NDArray[Any]

MODEL_HEADER = "x-headend-model"
"""Names the model, which saves the front door a look into the message."""

NOTHING = Onward()
"""Said by a request that no client made."""
_CHANNEL = [
    # Segments and pictures are far below; the limit only guards against a runaway tensor.
    ("grpc.max_send_message_length", 256 << 20),
    ("grpc.max_receive_message_length", 256 << 20),
    # A front door that died is back in a second or two; gRPC's default pause grows to 120 s.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]
_RETRY_PAUSES_S = (0.1, 0.4, 1.5)
"""Inference changes nothing, so a request that met a restarting front door or a full queue is asked again."""
_STATUS = {
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "UNIMPLEMENTED": 502,
    "INTERNAL": 502,
    "UNKNOWN": 502,
}


class ModelsClient:
    """Asks models for inference. Open it inside the event loop that uses it."""

    def __init__(self, front_door: str, tracer: Tracer | None = None) -> None:
        """`front_door` is `host:port`; `tracer` makes a span of each inference, below the request's own."""
        self._client = InferenceServerClient(front_door, channel_args=_CHANNEL)
        self._tracer = tracer or NoOpTracer()

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        *,
        outputs: Sequence[str] | None = None,
        onward: Onward = NOTHING,
        timeout_s: float = 60.0,
    ) -> dict[str, Array]:
        """One inference of `model`: tensors by name in, tensors by name out (all of them, or `outputs`).

        An array's dtype says the tensor's; text is an object array of str or bytes and comes back as bytes.
        `onward` is what the request said for which this is needed. Its class is Triton's priority too, which
        counts where the fleet file has Triton admit (`admission: triton`).

        Raises `ModelUnavailableError` (503) when no site answers, and `AppError` with the status that fits
        when the model refuses (400), fails (502), or takes longer than `timeout_s` or the deadline (504).
        """
        tensors = [_input(name, array) for name, array in inputs.items()]
        wanted = None if outputs is None else [InferRequestedOutput(name) for name in outputs]
        headers = {MODEL_HEADER: model} | onward.headers()
        timeout_s = onward.left_s(timeout_s)
        priority = PRIORITY[onward.class_ or DEFAULT_CLASS]
        with self._tracer.start_as_current_span(model, kind=SpanKind.CLIENT):
            TraceContextTextMapPropagator().inject(headers)
            ask = partial(
                self._client.infer, model, tensors, outputs=wanted, headers=headers, priority=priority
            )
            result = await _patiently(ask, model, timeout_s)
        names = [tensor.name for tensor in result.get_response().outputs]
        return {name: result.as_numpy(name) for name in names}

    async def close(self) -> None:
        """Close the channel; requests under way end with an error."""
        await self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _patiently(ask: Callable[..., Awaitable[Any]], model: str, timeout_s: float) -> Any:
    """What `ask` gives, of the last attempt if need be."""
    deadline = time.monotonic() + timeout_s
    for pause in (*_RETRY_PAUSES_S, None):
        left = deadline - time.monotonic()
        try:
            return await ask(client_timeout=max(left, 0.001))
        except InferenceServerException as error:
            if pause is None or pause > left or not _passing(error):
                raise _explain(model, error, timeout_s) from error
            await asyncio.sleep(pause)
    raise AssertionError("the last attempt answers or raises")


def _input(name: str, array: Array) -> Any:
    dtype = "BYTES" if array.dtype.kind in "OSU" else np_to_triton_dtype(array.dtype)
    tensor = InferInput(name, list(array.shape), dtype)
    return tensor.set_data_from_numpy(array.astype(np.object_) if dtype == "BYTES" else array)


def _code(error: InferenceServerException) -> str:
    return str(error.status()).removeprefix("StatusCode.")


def _passing(error: InferenceServerException) -> bool:
    return _code(error) in ("UNAVAILABLE", "RESOURCE_EXHAUSTED")


def _explain(model: str, error: InferenceServerException, timeout_s: float) -> AppError:
    code = _code(error)
    if code == "DEADLINE_EXCEEDED":
        return AppError(f"Model `{model}` did not answer within {timeout_s:g} s.", status=504)
    if code in _STATUS:
        return AppError(f"Model `{model}`: {error.message()}", status=_STATUS[code])
    return ModelUnavailableError(f"Model `{model}` cannot be reached: {error.message()}")
