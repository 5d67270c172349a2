"""What an app takes in at a time, as ASGI middleware: so many requests, and bodies so large."""

from __future__ import annotations

import asyncio

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.apps.errors import AppError, TooLargeError

INTERNAL = "/-/"
"""Paths below this are the site's own (readiness): they never wait, or a busy app would look dead."""


class ConcurrencyLimit:
    """Lets `concurrency` requests work and `queue` more wait.

    The rest get 503, so that another site may take them. Bodies of waiting requests stay in their sockets:
    they cost no memory here.
    """

    def __init__(self, app: ASGIApp, *, concurrency: int, queue: int) -> None:
        self._app = app
        self._most = concurrency + queue
        self._inside = 0
        self._slots = asyncio.Semaphore(concurrency)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"].startswith(INTERNAL):
            await self._app(scope, receive, send)
            return
        if self._inside >= self._most:
            full = AppError("The queue is full here; ask again in a second.", status=503, code="queue_full")
            await JSONResponse(full.body(), full.status, {"retry-after": "1"})(scope, receive, send)
            return
        self._inside += 1
        try:
            async with self._slots:
                await self._app(scope, receive, send)
        finally:
            self._inside -= 1


class BodyLimit:
    """Refuses bodies larger than `most` bytes: by their declared length, otherwise where they pass it."""

    def __init__(self, app: ASGIApp, *, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"")
        if length.isdigit() and int(length) > self._most:
            refusal = self._refusal()
            await JSONResponse(refusal.body(), refusal.status)(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._most:
                raise self._refusal()
            return message

        await self._app(scope, counted, send)

    def _refusal(self) -> TooLargeError:
        return TooLargeError(f"The body is larger than the {self._most >> 20} MiB accepted here.")
