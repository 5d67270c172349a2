"""One replica of an app: a FastAPI app under uvicorn inside a Ray Serve actor, on a port of its own.

Serve places replicas, watches and restarts them. Requests do not pass its proxy, a Python process that would
copy every upload once more and whose readiness knows nothing of a single app: the front door leads straight
to the replicas. Several replicas of one app share its port (SO_REUSEPORT: the kernel spreads connections).
Serve's HAProxy mode was not taken: it binds its statistics, its metrics and the replicas to all interfaces.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import socket
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from ray import serve

from serving.apps.config import AppsConfig
from serving.apps.whole_answers import WholeAnswers
from serving.fleet import AppName

_log = logging.getLogger(__name__)

_FACTORIES: dict[AppName, str] = {
    "subtitles": "serving.apps.subtitles.api",
    "review": "serving.apps.review.api",
}


def create_app(name: AppName, config: AppsConfig) -> FastAPI:
    """The FastAPI app `name`; its module is imported only where it runs."""
    app: FastAPI = importlib.import_module(_FACTORIES[name]).create_app(config)
    return app


class Replica:
    """The actor. Ready when it listens."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, name: AppName, config_json: str, log: Path | None
    ) -> None:
        config = AppsConfig.model_validate_json(config_json)
        if log:
            _log_to(log, name)
        listener = _listen(config.apps[name].port)
        self._server = uvicorn.Server(
            uvicorn.Config(
                create_app(name, config),
                http=WholeAnswers,
                log_config=None,
                access_log=False,
                lifespan="on",
            )
        )
        self._serving = asyncio.create_task(self._server.serve([listener]))
        while not self._server.started:
            if self._serving.done():
                raise RuntimeError(f"app `{name}` ended while it started") from self._serving.exception()
            await asyncio.sleep(0.01)
        _log.info("answers on port %d", config.apps[name].port)

    async def check_health(self) -> None:
        """Asked by Serve now and then; raises when the server ended."""
        if self._serving.done():
            raise RuntimeError("the app's server ended") from self._serving.exception()

    async def __del__(self) -> None:
        """Called by Serve when the replica is told to go: finish what is being answered."""
        self._server.should_exit = True
        await self._serving


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    return listener


def _log_to(path: Path, name: str) -> None:
    """Ray would keep what is logged here in a file of its own, where nobody looks."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s {name}: %(message)s"))
    for source in (logging.getLogger("serving"), logging.getLogger("uvicorn.error")):
        source.addHandler(handler)
    logging.getLogger("serving").setLevel(logging.INFO)


def application(name: AppName, config: AppsConfig, log: Path | None) -> Any:
    """The Serve application of one app; its replicas append to `log` what they have to say."""
    deployment = serve.deployment(
        name=name,
        num_replicas=config.apps[name].replicas,
        ray_actor_options={"num_cpus": 0},
        health_check_period_s=2,
        health_check_timeout_s=60,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=10,
    )(Replica)
    return deployment.bind(name, config.model_dump_json(), log)
