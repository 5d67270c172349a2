"""Lets sites tell with every answer how busy they are (ORCA), for Envoy's policies that weigh by it.

Triton sends none. Here a process in the site's namespace reads Triton's counters twice a second and has the
peer listener's routes add to every answer what they come to.
(https://github.com/cncf/xds/blob/main/xds/data/orca/v3/orca_load_report.proto; as a header:
`endpoint-load-metrics`, in Envoy's `source/common/orca`)
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from loadtests.testbed import network
from loadtests.testbed.bed import Testbed, child
from models.files import write_atomic
from serving.router.agent.config import AgentConfig
from serving.router.telemetry import triton
from serving.router.telemetry.counters import Counters
from serving.router.xds import set_header

HEADER = "endpoint-load-metrics"
WINDOW_S, EVERY_S = 2.0, 0.5
"""What a report is of, and how often it changes."""


@contextmanager
def told(bed: Testbed) -> Iterator[None]:
    """Meanwhile every site tells."""
    with ExitStack() as stack:
        for site, size in bed.scenario.sites.items():
            config = agent_config(bed, site)
            routes = _routes(AgentConfig.load(config))
            stack.callback(write_atomic, routes, routes.read_bytes())
            tells = [sys.executable, "-m", "loadtests.testbed.reports", str(config), str(size.copies)]
            stack.enter_context(child(network.inside(site, tells), config.with_name("reports.log"), {}))
        yield


def agent_config(bed: Testbed, site: str) -> Path:
    """The configuration of the site's agent."""
    spec = bed.directories[site].read_spec()
    if spec is None:
        raise AssertionError("a running site has a spec")
    return Path(next(part for part in spec.parts if part.name == "agent").argv[-1])


def report(counted: Counters[triton.Key], models: list[str], copies: int) -> str:
    """A report's text; empty: nothing was answered, so that there is nothing to tell.

    Requests/s, and the share of the time in which the copies of all models were busy, above 1 by chance only.
    """
    rate = sum(counted.rate((name, "answered")) for name in models)
    if not rate:
        return ""
    busy = sum(counted.rate((name, "service_ns")) for name in models) / 1e9 / (copies * len(models))
    return f"TEXT application_utilization={busy:.4f}, rps_fractional={rate:.3f}"


def _routes(config: AgentConfig) -> Path:
    return config.directory / "envoy" / "routes" / "peer.json"


async def _tell(config: AgentConfig, copies: int) -> None:
    routes = _routes(config)
    found: dict[str, Any] = json.loads(routes.read_bytes())
    (host,) = found["resources"][0]["virtual_hosts"]
    models = [pool.name for pool in config.view.pools if pool.kind == "model"]
    counted: Counters[triton.Key] = Counters(WINDOW_S)
    ports = config.view.ports
    async with httpx.AsyncClient(timeout=1) as client:
        while True:
            with suppress(httpx.HTTPError, ValueError):
                reading = await triton.read(client, ports.triton_http, config.triton_metrics)
                counted.add(time.monotonic(), reading.counters, reading.unworked)
                said = report(counted, models, copies)
                host["response_headers_to_add"] = [set_header(HEADER, said)] if said else []
                write_atomic(routes, json.dumps(found).encode())
            await asyncio.sleep(EVERY_S)


if __name__ == "__main__":
    asyncio.run(_tell(AgentConfig.load(Path(sys.argv[1])), int(sys.argv[2])))
