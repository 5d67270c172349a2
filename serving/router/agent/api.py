"""What an agent answers on its loopback port. Of it, other sites reach only what is below `/-/agent`.

Envoy's peer listener names the site whose certificate was shown in `x-headend-peer`, and lets nobody else
set that header.
"""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.router.agent.agent import Agent
from serving.router.agent.metrics import AgentCollector
from serving.router.agent.routes_view import routes_of
from serving.router.telemetry.exchange import PATH, TOOK_HEADER
from serving.router.telemetry.message import MOST_QUESTION_BYTES, RefusedError

PEER_HEADER = "x-headend-peer"


def application(agent: Agent) -> Starlette:
    """The ASGI application."""
    registry = CollectorRegistry()
    registry.register(AgentCollector(agent))

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

    return Starlette(
        routes=[
            Route(PATH, telemetry, methods=["POST"]),
            Route("/-/alive", alive),
            Route("/-/ready", ready),
            Route("/metrics", metrics),
            Route("/-/routes", routes),
        ]
    )


async def _body(request: Request) -> bytes:
    """No more than a question may have. Raises `RefusedError`."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MOST_QUESTION_BYTES:
            raise RefusedError("size", f"a question has at most {MOST_QUESTION_BYTES} bytes")
    return bytes(data)
