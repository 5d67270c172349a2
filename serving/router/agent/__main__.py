"""`python -m serving.router.agent CONFIG.json`: the supervised part `agent` of a site.

SIGTERM or SIGINT ends it within a second. Its own port answers `/-/alive`, `/-/ready`, `/metrics`,
`/-/routes` and, for other sites' agents, `/-/agent/telemetry`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from contextlib import suppress
from pathlib import Path

import httpx
import uvicorn

from models.errors import HeadendError
from serving.router.agent.agent import Agent
from serving.router.agent.api import application
from serving.router.agent.config import AgentConfig
from serving.router.agent.identity import Identity
from serving.router.view import LOOPBACK

_log = logging.getLogger("headend.agent")


async def _run(config: AgentConfig) -> None:
    async with (
        httpx.AsyncClient(trust_env=False) as local,
        Identity(config.view.fleet, config.view.local.name, config.view.identity) as identity,
    ):
        agent = Agent(config, local, identity)
        server = uvicorn.Server(
            uvicorn.Config(
                application(agent),
                host=LOOPBACK,
                port=config.view.ports.agent,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=1,
            )
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            # The server's own handlers end it, and raise the signal once more when it has ended.
            signal.signal(number, lambda *_: None)
        working = asyncio.create_task(agent.run())
        working.add_done_callback(lambda _: setattr(server, "should_exit", True))
        await server.serve()
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working


def main(arguments: list[str]) -> int:
    """Run the part until a signal ends it."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        config = AgentConfig.load(Path(arguments[0]))
        gc.freeze()  # modules stay: the collector need not look at them again
        asyncio.run(_run(config))
    except HeadendError as error:
        _log.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
