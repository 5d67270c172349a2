"""The Ray Serve part of a local site: `python -m serving.apps.server --config FILE`.

One driver process starts a local Ray cluster, deploys the apps of the config on Serve, and answers on its own
port `/-/ready` (200 when a replica of every app answers, else 503 naming those that do not) and `/-/alive`.
SIGTERM or SIGINT: replicas finish what they are answering, then everything is ended. When a process of the
cluster dies that Ray does not restart itself, or Serve does not bring an app back, the driver ends with
status 1, to be started again.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from models.errors import HeadendError
from serving.apps import cluster
from serving.apps.config import AppsConfig
from serving.fleet import AppName

_log = logging.getLogger("headend.apps")

_PROBE_TIMEOUT_S = 2.0
_LOOK_EVERY_S = 1.0
_PROBE_EVERY_S = 5.0


def main(arguments: list[str] | None = None) -> int:
    """Run the part until a signal ends it."""
    parser = argparse.ArgumentParser(
        prog="serving.apps.server", description="The Ray Serve part of a local site."
    )
    parser.add_argument("--config", type=Path, required=True, help="JSON file, see serving/apps/config.py")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        config = AppsConfig.load(parser.parse_args(arguments).config)
        return _run(config)
    except HeadendError as error:
        _log.error("%s", error)
        return error.exit_code


def _run(config: AppsConfig) -> int:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    config.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.environ.update(cluster.environment(config.run_dir))
    begun = time.monotonic()
    with cluster.running(config.run_dir) as node:
        _log.info("cluster up after %.1f s", time.monotonic() - begun)
        _deploy(config)
        _log.info("apps %s up after %.1f s", ", ".join(config.apps), time.monotonic() - begun)
        status = asyncio.run(_answer(config, node))
        if status == 0:
            _withdraw()
        return status


def _deploy(config: AppsConfig) -> None:
    from ray import serve

    from serving.apps.replica import application

    # Without Serve's own proxy: the front door leads to the replicas (see `replica`).
    serve.start(proxy_location="Disabled")
    log = _log_file()
    serve.run_many(
        [
            serve.RunTarget(application(name, config, log), name=name, route_prefix=None)
            for name in config.apps
        ]
    )


def _log_file() -> Path | None:
    """The file that this process's standard error goes to, so that replicas write to the same."""
    path = Path(f"/proc/{os.getpid()}/fd/{sys.stderr.fileno()}").resolve()
    return path if path.is_file() else None


def _withdraw() -> None:
    """Have the replicas finish what they are answering."""
    from ray import serve

    serve.shutdown()  # type: ignore[no-untyped-call]


async def _answer(config: AppsConfig, node: Any) -> int:
    """Answer for the part until a signal, or until the cluster breaks."""
    apps = Apps(config)
    server = uvicorn.Server(
        uvicorn.Config(_status(apps), host="127.0.0.1", port=config.port, log_config=None, access_log=False)
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # The server's own handlers end it, and raise the signal once more when it has ended.
        signal.signal(number, lambda *_: None)
    broken: list[str] = []

    async def watch() -> None:
        while not server.should_exit:
            await asyncio.sleep(_LOOK_EVERY_S)
            broken.extend(f"Ray's {kind} died" for kind, _ in node.dead_processes())
            server.should_exit = server.should_exit or bool(broken)

    async def wait_for_the_missing() -> None:
        answered = dict.fromkeys(config.apps, time.monotonic())
        while not server.should_exit:
            await asyncio.sleep(min(_PROBE_EVERY_S, config.patience_s))
            now = time.monotonic()
            answered |= {name: now for name, answers in (await apps.states()).items() if answers}
            broken.extend(
                f"app `{name}` has not answered for {now - last:.0f} s"
                for name, last in answered.items()
                if now - last > config.patience_s
            )
            server.should_exit = server.should_exit or bool(broken)

    watching = [asyncio.create_task(each) for each in (watch(), wait_for_the_missing())]
    await server.serve()
    for each in watching:
        each.cancel()
    if broken:
        _log.error("%s", "; ".join(broken))
    return 1 if broken else 0


class Apps:
    """Asks the apps whether they answer."""

    def __init__(self, config: AppsConfig) -> None:
        self._ports = {name: use.port for name, use in config.apps.items()}
        self._client = httpx.AsyncClient(timeout=_PROBE_TIMEOUT_S, trust_env=False)

    async def states(self) -> dict[AppName, bool]:
        """By app: whether a replica answers."""
        found = await asyncio.gather(*(self._answers(name, port) for name, port in self._ports.items()))
        return dict(zip(self._ports, found, strict=True))

    async def _answers(self, name: AppName, port: int) -> bool:
        try:
            response = await self._client.get(f"http://127.0.0.1:{port}/-/ready/{name}")
        except httpx.HTTPError:
            return False
        return response.status_code == httpx.codes.OK


def _status(apps: Apps) -> FastAPI:
    app = FastAPI(title="headend apps")

    @app.get("/-/ready")
    async def ready() -> JSONResponse:
        states = await apps.states()
        return JSONResponse(states, 200 if all(states.values()) else 503)

    @app.get("/-/alive")
    async def alive() -> dict[str, bool]:
        return {"alive": True}

    return app


if __name__ == "__main__":
    sys.exit(main())
