"""Answers that leave in one piece: uvicorn writes a response's head and its body to the kernel one by one.

A process that ends between the two has sent half an answer, which no front door can ask another site for:
what has begun is on its way to the client. On a busy machine that happens. So what is written within one
pass of the event loop is handed over in one call, which also costs less.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class WholeAnswers(HttpToolsProtocol):
    """uvicorn's protocol (`uvicorn.Config(http=…)`): head and body are written together if they come so."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As `asyncio.Protocol` says."""
        super().connection_made(_Joined(transport, self.loop))  # type: ignore[arg-type]  # it is by delegation


class _Joined:
    """A transport that hands over what is written when the event loop comes round, or before it closes."""

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._written: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        """All else is the transport's own."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """As `asyncio.WriteTransport` says."""
        if not self._written:
            self._loop.call_soon(self._flush)
        self._written.append(data)

    def close(self) -> None:
        """As `asyncio.BaseTransport` says: what is written leaves first."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._written:
            data, self._written = b"".join(self._written), []
            if not self._transport.is_closing():
                self._transport.write(data)
