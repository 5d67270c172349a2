"""What all apps have in common: readiness, `GET /v1/models`, limits, errors, and the way to models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from starlette.types import Receive

from serving.apps import errors, tracing
from serving.apps.config import AppsConfig
from serving.apps.errors import UnknownModelError
from serving.apps.label import GeneratedLabel
from serving.apps.limits import BodyLimit, ConcurrencyLimit
from serving.apps.models_client import ModelsClient
from serving.apps.onward import Onward
from serving.fleet import ALIASES, AppName

_T = TypeVar("_T")


def new_app(name: AppName, config: AppsConfig) -> FastAPI:
    """A FastAPI app with the common parts, to which the app `name` adds its own routes."""

    tracer = tracing.tracer(name, config)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with ModelsClient(config.front_door, tracer) as client:
            app.state.models = client
            yield

    app = FastAPI(title=f"headend {name}", lifespan=lifespan)
    errors.install(app)
    use = config.apps[name]
    app.add_middleware(ConcurrencyLimit, concurrency=use.concurrency, queue=use.queue)
    app.add_middleware(BodyLimit, most=config.limits.body_mib << 20)
    app.add_middleware(GeneratedLabel, name=name)
    if tracer:
        app.add_middleware(tracing.RequestSpan, tracer=tracer, name=f"{name}/{config.site}")

    @app.get(f"/-/ready/{name}", include_in_schema=False)
    async def ready() -> dict[str, str]:
        return {"app": name, "site": config.site}

    known = [_model(model) for model in sorted({*config.apps, *ALIASES, *config.models})]

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": known}

    @app.get("/v1/models/{model}")
    async def retrieve_model(model: str) -> dict[str, Any]:
        found = next((entry for entry in known if entry["id"] == model), None)
        if found is None:
            raise UnknownModelError(model, [entry["id"] for entry in known])
        return found

    return app


def _model(name: str) -> dict[str, Any]:
    """OpenAI's model object. `created` is required there and means nothing here."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "headend"}


def models(request: Request) -> ModelsClient:
    """The client of the process, for FastAPI's `Depends`."""
    client: ModelsClient = request.app.state.models
    return client


async def onward(request: Request) -> Onward:
    """What holds for the request's calls of models too, for FastAPI's `Depends`."""
    return Onward.of(request.headers)


async def while_connected(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """The result of `work`, which is cancelled when the client leaves. Read the request's body before."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request.receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise errors.AppError("The client left.", status=499)
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
