"""What an agent answers on its loopback port. Of it, other sites reach only what is below `/-/agent`.

Envoy's peer listener names the site whose certificate was shown in `x-headend-peer`, and lets nobody else
set that header.
"""

from __future__ import annotations

import asyncio
import time

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from models.errors import HeadendError, UsageError
from serving.fleet import PEER_HEADER
from serving.router.agent.agent import Agent
from serving.router.agent.metrics import AgentCollector
from serving.router.agent.routes_view import routes_of
from serving.router.telemetry.exchange import PATH, TOOK_HEADER
from serving.router.telemetry.message import MOST_QUESTION_BYTES, RefusedError
from serving.router.view import Pool


def application(agent: Agent) -> Starlette:
    """The ASGI application."""
    registry = CollectorRegistry()
    registry.register(AgentCollector(agent))
    ProcessCollector(registry=registry)

    async def telemetry(request: Request) -> Response:
        begun = time.monotonic()
        peer = request.headers.get(PEER_HEADER, "")
        try:
            answer = agent.answerer.answer(await _body(request), peer.rpartition("/site/")[2])
        except RefusedError as error:
            agent.board.refuse(error.reason)
            return JSONResponse({"error": str(error), "reason": error.reason}, 400)
        took = (time.monotonic() - begun) * 1000
        return Response(answer, media_type="application/zlib", headers={TOOK_HEADER: f"{took:.3f}"})

    async def alive(request: Request) -> Response:
        return JSONResponse({"alive": agent.is_alive}, 200 if agent.is_alive else 503)

    async def ready(request: Request) -> Response:
        return JSONResponse({"ready": agent.is_ready}, 200 if agent.is_ready else 503)

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    async def routes(request: Request) -> Response:
        return Response(routes_of(agent).model_dump_json(), media_type="application/json")

    async def explain(request: Request) -> Response:
        try:
            pool = _pool(agent, request.query_params.get("pool", ""))
            door = request.query_params.get("door", agent.config.view.local.name)
            explanation = await asyncio.to_thread(agent.planner.explain, door, pool)
        except HeadendError as error:
            return JSONResponse({"error": error.message, "hint": error.hint}, 404)
        return JSONResponse(explanation.as_dict())

    return Starlette(
        routes=[
            Route(PATH, telemetry, methods=["POST"]),
            Route("/-/alive", alive),
            Route("/-/ready", ready),
            Route("/metrics", metrics),
            Route("/-/routes", routes),
            Route("/-/routes/explain", explain),
        ]
    )


def _pool(agent: Agent, name: str) -> Pool:
    """The pool `model.NAME`, `app.NAME` or, where that says enough, `NAME`. Raises `UsageError`."""
    pools = {f"{pool.kind}.{pool.name}": pool for pool in agent.config.view.pools if pool.kind != "server"}
    found = [pool for key, pool in pools.items() if name in (key, pool.name)]
    if len(found) != 1:
        what = "has several pools" if found else "has no pool"
        raise UsageError(f"The fleet {what} `{name}`.", hint=f"Pools: {', '.join(pools)}.")
    return found[0]


async def _body(request: Request) -> bytes:
    """No more than a question may have. Raises `RefusedError`."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MOST_QUESTION_BYTES:
            raise RefusedError("size", f"a question has at most {MOST_QUESTION_BYTES} bytes")
    return bytes(data)
