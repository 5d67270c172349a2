"""What an agent answers to other sites' agents: all that is below `/-/agent`.

Envoy's peer listener names the site whose certificate was shown, and the certificate, in headers that it lets
nobody else set.
"""

from __future__ import annotations

import asyncio
import logging
import time

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from models.errors import HeadendError
from serving.fleet import PEER_HEADER, PEER_SERIAL_HEADER
from serving.router.agent import renewal
from serving.router.agent.agent import Agent
from serving.router.telemetry.exchange import PATH, TOOK_HEADER
from serving.router.telemetry.message import MOST_QUESTION_BYTES, RefusedError

_log = logging.getLogger("headend.agent")


def routes(agent: Agent) -> list[Route]:
    """Telemetry, and certificates where the authority is."""

    async def telemetry(request: Request) -> Response:
        try:
            question = await _body(request, MOST_QUESTION_BYTES)
            # Its way here is none of this site's work, but what the other site measures the link by.
            begun = time.monotonic()
            answer = agent.answerer.answer(question, _peer(request))
        except RefusedError as error:
            agent.board.refuse(error.reason)
            return JSONResponse({"error": str(error), "reason": error.reason}, 400)
        took = (time.monotonic() - begun) * 1000
        return Response(answer, media_type="application/zlib", headers={TOOK_HEADER: f"{took:.3f}"})

    async def certificate(request: Request) -> Response:
        fleet, peer = agent.config.view.fleet, _peer(request)
        serial = request.headers.get(PEER_SERIAL_HEADER, "")
        try:
            asked = await _body(request, renewal.MOST_BYTES)
            found = await asyncio.to_thread(renewal.renewed, fleet, peer, serial, asked)
        except (HeadendError, RefusedError) as error:
            _log.warning("site %s gets no certificate: %s", peer, error)
            return Response(str(error), 403)
        if found is None:
            return Response("The fleet's authority is not on this machine.", 404)
        return Response(found, media_type="application/x-pem-file")

    return [
        Route(PATH, telemetry, methods=["POST"]),
        Route(renewal.PATH, certificate, methods=["POST"]),
    ]


def _peer(request: Request) -> str:
    """The site that asks; empty in a fleet without a CA."""
    return request.headers.get(PEER_HEADER, "").rpartition("/site/")[2]


async def _body(request: Request, most: int) -> bytes:
    """Raises `RefusedError` for more than `most` bytes."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > most:
            raise RefusedError("size", f"a question has at most {most} bytes")
    return bytes(data)
