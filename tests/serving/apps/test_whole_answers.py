"""Head and body of an answer leave together."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import uvicorn
from waiting import until

from serving.apps.whole_answers import WholeAnswers

Send = Callable[[dict[str, Any]], Awaitable[None]]
BODY = b"x" * 5000


async def app(scope: dict[str, Any], receive: Any, send: Send) -> None:
    """Answers at once, or at `/slowly` in two parts."""
    headers = [(b"content-length", b"5000")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] == "/slowly":
        async for part in slowly():
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    else:
        await send({"type": "http.response.body", "body": BODY})


async def slowly() -> AsyncIterator[bytes]:
    yield BODY[:1000]
    await asyncio.sleep(0.2)
    yield BODY[1000:]


@contextmanager
def serving() -> Iterator[tuple[str, int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, http=WholeAnswers, log_config=None, lifespan="off"))
    thread = Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        until(lambda: server.started, "uvicorn")
        yield listener.getsockname()
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def test_whoever_reads_once_has_all_of_it() -> None:
    with serving() as address, socket.create_connection(address, 20) as connection:
        for _ in range(300):
            connection.sendall(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
            assert connection.recv(65536).endswith(BODY)


def test_what_comes_later_does_not_keep_the_rest_waiting() -> None:
    with serving() as address, socket.create_connection(address, 20) as connection:
        connection.sendall(b"GET /slowly HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n")
        first = connection.recv(65536)
        assert first.endswith(b"\r\n\r\n" + BODY[:1000])
        assert b"".join(iter(lambda: connection.recv(65536), b"")) == BODY[1000:]
