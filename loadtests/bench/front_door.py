"""What the front door costs beside other proxies doing the same work: processor time, instructions, latency.

A bare Envoy, HAProxy and a proxy in Python forward the same small inference request (HTTP/1.1, and gRPC but
for the one in Python) to the same upstream, one thread each, in turns of one run. The front door is derived
from a fleet of two sites as `headend up` derives it: routes by model and class, room and deadlines, retries,
health checks, access log. The others do none of that, and write no access log.

Processor time and instructions are of the proxy's process alone, by request, health checks included.
"""

from __future__ import annotations

import http.client
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from rich.table import Table

from loadtests.bench import compare, proxies, report
from loadtests.bench.compare import Turn, Variant
from loadtests.bench.machine import Watch
from loadtests.bench.proxies import Proxy
from loadtests.bench.usage import Meter
from serving.router.protocol import INFER_METHOD, SERVICE

BASE = "bare Envoy"
BODY = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0.5, 1.5, 2.5, 3.5]}]}'
IN_FLIGHT = 4


def run(out: Path, *, rounds: int = 7, requests: int = 2000) -> None:
    """Measure and publish `front-door.json` in `out`. Raises `BusyMachineError` on a busy machine."""
    with ExitStack() as stack:
        upstream, running = start(stack)
        watch = Watch.start([upstream.pid, *(proxy.pid for proxy in running.values())])
        figures = measure(running, rounds, requests)
        report.publish("front-door", out, watch.stop(), figures)


def start(stack: ExitStack) -> tuple[Proxy, dict[str, Proxy]]:
    """The upstream, and every proxy by name, ended with `stack`; HAProxy where it is installed."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headend-bench-")))
    behind = stack.enter_context(proxies.upstream(folder))
    # The upstream takes spans as it takes all else.
    traced = f'tracing: {{endpoint: "http://{behind.address}", sampling: 0.01}},'
    running = {
        BASE: stack.enter_context(proxies.bare(behind, folder)),
        "front door": stack.enter_context(proxies.front_door(behind, folder)),
        "front door, API keys": stack.enter_context(proxies.front_door(behind, folder, keyed=True)),
        "front door, 1% traced": stack.enter_context(proxies.front_door(behind, folder, declared=traced)),
        "Python (aiohttp)": stack.enter_context(proxies.python(behind)),
    }
    if shutil.which("haproxy"):
        running["HAProxy"] = stack.enter_context(proxies.haproxy(behind, folder))
    else:
        report.console.print("HAProxy is left out: it is not installed (apt-get install haproxy).")
    return behind, running


def measure(running: dict[str, Proxy], rounds: int, requests: int) -> dict[str, Any]:
    """Give all of them their turns, print two tables, and return the figures."""
    by_grpc = {name: proxy for name, proxy in running.items() if proxy.grpc}
    return {
        "rounds": rounds,
        "requests_per_turn": requests,
        "in_flight": IN_FLIGHT,
        "HTTP": _measure("HTTP/1.1", running, _http, rounds, requests),
        "gRPC": _measure("gRPC", by_grpc, _grpc, rounds, requests),
    }


def _measure(
    title: str,
    running: dict[str, Proxy],
    client: Callable[[Proxy], compare.Call],
    rounds: int,
    requests: int,
) -> dict[str, Any]:
    found = compare.run(
        {name: partial(client, proxy) for name, proxy in running.items()},
        in_flight=IN_FLIGHT,
        rounds=rounds,
        requests=requests,
        own=[proxy.pid for proxy in running.values()],
        meters={name: Meter(proxy.pid) for name, proxy in running.items()},
    )
    base = next(variant for variant in found if variant.name == BASE)
    report.console.print(_table(title, found, base))
    return {variant.name: _figures(variant, base) for variant in found}


def _http(proxy: Proxy) -> compare.Call:
    connection = http.client.HTTPConnection(proxy.address, timeout=10)
    headers = {"content-type": "application/json", **proxy.headers}

    def call() -> None:
        connection.request("POST", proxies.PATH, BODY, headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{proxy.address} answered {answer.status}: {body[:200]!r}")

    return call


def _grpc(proxy: Proxy) -> compare.Call:
    # A connection of its own for each worker; gRPC shares one otherwise.
    channel = grpc.insecure_channel(str(proxy.grpc), [("grpc.use_local_subchannel_pool", 1)])
    infer = channel.unary_unary(f"/{SERVICE}/{INFER_METHOD}")
    return partial(infer, proxies.infer_request(), metadata=tuple(proxy.headers.items()), timeout=10)


def _cpu_us(turn: Turn) -> float | None:
    return 1e6 * turn.usage.cpu_s / len(turn.latencies) if turn.usage else None


def _instructions(turn: Turn) -> float | None:
    usage = turn.usage
    return usage.instructions / len(turn.latencies) if usage and usage.instructions else None


def _percentile(share: float) -> Callable[[Turn], float]:
    return lambda turn: 1e3 * sorted(turn.latencies)[int(share * len(turn.latencies))]


_FIGURES: dict[str, Callable[[Turn], float | None]] = {
    "cpu_us": _cpu_us,
    "instructions": _instructions,
    "p50_ms": _percentile(0.5),
    "p99_ms": _percentile(0.99),
}


def _figures(variant: Variant, base: Variant) -> dict[str, Any]:
    """By figure: the median of its turns, and over the base's in the same round: median, least, most."""
    return {
        name: {"median": value, "over bare Envoy": _over(variant, base, figure)}
        for name, figure in _FIGURES.items()
        if (value := _median(variant, figure)) is not None
    }


def _median(variant: Variant, figure: Callable[[Turn], float | None]) -> float | None:
    values = [value for turn in variant.turns if (value := figure(turn)) is not None]
    return statistics.median(values) if values else None


def _over(variant: Variant, base: Variant, figure: Callable[[Turn], float | None]) -> tuple[float, ...]:
    return variant.ratio(base, lambda turn: figure(turn) or float("nan"))


def _table(title: str, found: list[Variant], base: Variant) -> Table:
    table = Table(title=f"{title}, {IN_FLIGHT} in flight, one thread a proxy", title_justify="left")
    for heading in ("proxy", "CPU µs/request", "instructions", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="left" if heading == "proxy" else "right")
    for variant in found:
        table.add_row(variant.name, *_cells(variant, base))
    return table


def _cells(variant: Variant, base: Variant) -> Iterator[str]:
    for figure in _FIGURES.values():
        value = _median(variant, figure)
        if value is None:
            yield "not counted"
        else:
            median, low, high = _over(variant, base, figure)
            yield f"{value:,.3g} = {median:.2f} ({low:.2f}-{high:.2f})"
