"""What an agent answers on its loopback port. Other sites reach only what is in `for_peers`."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from models.errors import HeadendError, UsageError
from serving.router.agent import for_peers
from serving.router.agent.agent import Agent
from serving.router.agent.metrics import AgentCollector
from serving.router.agent.routes_view import routes_of
from serving.router.view import Pool


def application(agent: Agent) -> Starlette:
    """The ASGI application."""
    registry = CollectorRegistry()
    registry.register(AgentCollector(agent))
    ProcessCollector(registry=registry)

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
            *for_peers.routes(agent),
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
