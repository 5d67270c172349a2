"""Asks the old and the new version of a model the same: `python -m serving.site.rollout.judge FILE`.

A small server beside a site's canary. The front door copies some requests to it (Envoy's mirroring: nobody
waits for its answers), and `headend apply` sends recorded inputs. Each is asked of both versions, one after
the other and the first in turn, straight at their Tritons, so that times compare. At most a few are asked at
a time: what comes beyond that is dropped and counted, since clients' requests come first.

`/-/ready` answers 200; `/-/report` is a JSON object, model to `judging.Compared`. Both loopback only.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from tritonclient.grpc import InferResult as GrpcResult
from tritonclient.grpc import service_pb2
from tritonclient.http import InferResult as HttpResult

from models.card import Tolerance
from models.parity import compare
from models.recipe import Array, Case
from serving.site.rollout.judging import RECORDED_HEADER, Compared, JudgeConfig, Triton, median_at_least

AT_A_TIME = 2
_REMEMBERED = 10_000
_LIMIT_S = 60.0
_INFER = "/inference.GRPCInferenceService/ModelInfer"
_HTTP_HEADERS = ("content-type", "content-encoding", "inference-header-content-length")
_NO_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass(frozen=True)
class Answer:
    """What one version said."""

    outputs: Mapping[str, Array]
    error: str = ""


Ask = Callable[[Triton], Awaitable[Answer]]


_COUNTED = ("recorded", "mirrored", "different", "failed", "dropped")


@dataclass
class _Tally:
    tolerance: Tolerance
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTED, 0))
    times: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    """Milliseconds of the old and the new version."""
    first_difference: str = ""
    first_failure: str = ""

    def report(self) -> Compared:
        old, new = zip(*self.times, strict=True) if self.times else ((), ())
        ratios = [b / a for a, b in self.times]
        return Compared(
            **self.counts,
            ratio=median(ratios) if ratios else None,
            ratio_at_least=median_at_least(ratios),
            old_ms=median(old) if old else None,
            new_ms=median(new) if new else None,
            first_difference=self.first_difference,
            first_failure=self.first_failure,
        )


class Judge:
    """Compares, and remembers what it found."""

    def __init__(self, config: JudgeConfig) -> None:
        self._config = config
        self._tallies = {model: _Tally(tolerance) for model, tolerance in config.tolerances.items()}
        self._asking = 0
        self._turn = 0

    def report(self) -> dict[str, Any]:
        """Everything found so far."""
        return {model: tally.report().model_dump() for model, tally in self._tallies.items()}

    async def compare(self, model: str, ask: Ask, *, recorded: bool) -> None:
        """Ask both versions, and count."""
        tally = self._tallies.get(model)
        if tally is None:
            return
        if self._asking >= AT_A_TIME:
            tally.counts["dropped"] += 1
            return
        self._asking += 1
        try:
            await self._compare(tally, ask, "recorded" if recorded else "mirrored")
        finally:
            self._asking -= 1

    async def _compare(self, tally: _Tally, ask: Ask, origin: str) -> None:
        self._turn += 1
        sides = {"old": self._config.old, "new": self._config.new}
        answers, ms = {}, {}
        for side in ("old", "new") if self._turn % 2 else ("new", "old"):
            begun = time.perf_counter()
            answers[side] = await ask(sides[side])
            ms[side] = (time.perf_counter() - begun) * 1e3
        if answers["old"].error:  # the request's own fault, or a version that is no measure
            return
        if answers["new"].error:
            tally.counts["failed"] += 1
            tally.first_failure = tally.first_failure or answers["new"].error
            return
        tally.counts[origin] += 1
        tally.times.append((ms["old"], ms["new"]))
        if difference := difference_of(answers["old"].outputs, answers["new"].outputs, tally.tolerance):
            tally.counts["different"] += 1
            tally.first_difference = tally.first_difference or difference


def difference_of(old: Mapping[str, Array], new: Mapping[str, Array], tolerance: Tolerance) -> str:
    """The first output that is beyond the tolerance, in words; empty when all are within."""
    if old.keys() != new.keys():
        return f"it has outputs {', '.join(sorted(new))}, the old one {', '.join(sorted(old))}"
    for name, expected in old.items():
        found = new[name]
        if expected.dtype.kind in "OSU" or found.dtype.kind in "OSU":
            if not np.array_equal(found, expected):
                return f"output `{name}` is {found.ravel()[:3]}, the old version's {expected.ravel()[:3]}"
            continue
        result = compare(Case("model", "compared", {}), name, found, expected, tolerance)
        if not result.passed:
            return result.problem or (
                f"output `{name}`, element {list(result.worst)}, is {result.found:.6g}, "
                f"the old version's {result.expected:.6g}"
            )
    return ""


def _over_http(client: httpx.AsyncClient, path: str, body: bytes, headers: dict[str, str]) -> Ask:
    async def ask(triton: Triton) -> Answer:
        try:
            answer = await client.post(f"http://127.0.0.1:{triton.http}{path}", content=body, headers=headers)
        except httpx.HTTPError as error:
            return Answer({}, repr(error))
        if answer.is_error:
            return Answer({}, f"HTTP {answer.status_code}: {answer.text[:200]}")
        length = answer.headers.get("inference-header-content-length")
        return _outputs(
            lambda: HttpResult.from_response_body(answer.content, False, int(length) if length else None)
        )

    return ask


def _over_grpc(channels: Mapping[int, Any], message: bytes) -> Ask:
    async def ask(triton: Triton) -> Answer:
        call = channels[triton.grpc].unary_unary(
            _INFER, response_deserializer=service_pb2.ModelInferResponse.FromString
        )
        try:
            answer = await call(message, timeout=_LIMIT_S)
        except grpc.aio.AioRpcError as error:
            return Answer({}, f"{error.code().name}: {str(error.details())[:200]}")
        return _outputs(lambda: GrpcResult(answer))

    return ask


def _outputs(read: Callable[[], Any]) -> Answer:
    try:
        result = read()
        said = result.get_response()
        listed = said["outputs"] if isinstance(said, dict) else said.outputs
        names = [each["name"] if isinstance(each, dict) else each.name for each in listed]
        return Answer({name: result.as_numpy(name) for name in names})
    except Exception as error:  # the client library has no common exception for an answer it cannot read
        return Answer({}, f"an answer that cannot be read: {error!r}")


def http_app(judge: Judge, client: httpx.AsyncClient) -> FastAPI:
    """What listens for copies of HTTP requests, and for who asks what was found."""
    app = FastAPI(openapi_url=None)

    @app.get("/-/ready")
    async def ready() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/-/report")
    async def report() -> dict[str, Any]:
        return judge.report()

    @app.post("/v2/models/{model}/infer")
    @app.post("/v2/models/{model}/versions/{version}/infer")
    async def infer(model: str, request: Request) -> Response:
        headers = {name: request.headers[name] for name in _HTTP_HEADERS if name in request.headers}
        # Without the version, which names the old one's files.
        ask = _over_http(client, f"/v2/models/{model}/infer", await request.body(), headers)
        await judge.compare(model, ask, recorded=RECORDED_HEADER in request.headers)
        return Response()

    return app


def grpc_server(judge: Judge, config: JudgeConfig, channels: Mapping[int, Any]) -> Any:
    """What listens for copies of gRPC calls."""

    async def infer(message: bytes, context: Any) -> bytes:
        recorded = any(key == RECORDED_HEADER for key, _ in context.invocation_metadata())
        asked = service_pb2.ModelInferRequest.FromString(message)
        ask = _over_grpc(channels, message)
        await judge.compare(asked.model_name, ask, recorded=recorded)
        return b""

    handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(infer)}
    service, _, _ = _INFER[1:].partition("/")
    server = grpc.aio.server(options=_NO_LIMIT)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(f"127.0.0.1:{config.grpc}")
    return server


async def serve(config: JudgeConfig) -> None:
    """Judge until SIGTERM."""
    judge = Judge(config)
    channels = {
        port: grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_NO_LIMIT)
        for port in (config.old.grpc, config.new.grpc)
    }
    copies = grpc_server(judge, config, channels)
    await copies.start()
    async with httpx.AsyncClient(timeout=_LIMIT_S, trust_env=False) as client:
        app = http_app(judge, client)
        await uvicorn.Server(
            uvicorn.Config(app, host="127.0.0.1", port=config.http, log_config=None, access_log=False)
        ).serve()
    await copies.stop(grace=1)


if __name__ == "__main__":
    asyncio.run(serve(JudgeConfig.model_validate_json(Path(sys.argv[1]).read_bytes())))
