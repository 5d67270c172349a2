"""What an app takes in at a time, over real connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from starlette.types import ASGIApp

from serving.apps import errors
from serving.apps.application import while_connected
from serving.apps.limits import BodyLimit, ConcurrencyLimit


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve([listener]))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
        yield client
    server.should_exit = True
    await serving


class Doors:
    """An app whose requests wait until they are let go."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.go = asyncio.Event()
        self.at_work = 0
        self.most_at_work = 0
        self.left = 0
        errors.install(self.app)

        @self.app.get("/work")
        async def work(request: Request) -> str:
            return await while_connected(request, self._work())

        @self.app.post("/size")
        async def size(request: Request) -> int:
            return len(await request.body())

        @self.app.get("/-/ready/doors")
        async def ready() -> bool:
            return True

    async def _work(self) -> str:
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.left += 1
            raise
        finally:
            self.at_work -= 1
        return "done"


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # what is waited for is in another task's hands
            await asyncio.sleep(0.01)


async def test_so_many_work_more_wait_the_rest_are_refused() -> None:
    doors = Doors()
    async with served(ConcurrencyLimit(doors.app, concurrency=2, queue=3)) as client:
        tasks = [asyncio.create_task(client.get("/work")) for _ in range(8)]
        await until(lambda: sum(task.done() for task in tasks) == 3)
        assert (await client.get("/-/ready/doors")).status_code == 200  # busy is not dead
        doors.go.set()
        answers = await asyncio.gather(*tasks)
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(refused) == 3
    assert doors.most_at_work == 2
    assert refused[0].headers["retry-after"] == "1"
    assert refused[0].json()["error"]["code"] == "queue_full"


async def test_a_place_comes_free_when_the_client_leaves() -> None:
    doors = Doors()
    async with served(ConcurrencyLimit(doors.app, concurrency=1, queue=0)) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/work", timeout=0.3)
        await until(lambda: doors.left == 1)
        doors.go.set()
        assert (await client.get("/work")).json() == "done"


async def test_bodies_too_large_are_refused_declared_or_not() -> None:
    doors = Doors()

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield bytes(1 << 19)

    async with served(BodyLimit(doors.app, most=1 << 20)) as client:
        assert (await client.post("/size", content=bytes(1 << 20))).json() == 1 << 20
        for content in (bytes((1 << 20) + 1), chunks()):
            answer = await client.post("/size", content=content)
            assert answer.status_code == 413
            assert "1 MiB" in answer.json()["error"]["message"]
        assert (await client.post("/size", content=b"x")).json() == 1
