"""The proxies that the front door is compared with do the same work, and what they use is seen."""

from __future__ import annotations

import http.client
import subprocess
import sys
from contextlib import ExitStack

import grpc
import pytest

from loadtests.bench import front_door, proxies
from loadtests.bench.usage import Meter


def test_a_meter_sees_what_one_process_computes() -> None:
    spin = "import sys\nfor line in sys.stdin: print(sum(range(int(line))), flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", spin], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin
        assert child.stdout
        meter = Meter(child.pid)
        used = []
        for work in (1_000, 1_000, 3_000_000):
            meter.start()
            child.stdin.write(f"{work}\n")
            child.stdin.flush()
            child.stdout.readline()
            used.append(meter.stop())
        child.stdin.close()
    # The first asks for what the child has not begun with: its start counts too.
    _, little, much = used
    assert much.cpu_s > little.cpu_s > 0
    assert much.cpu_s > 0.005
    if much.instructions is not None:
        assert little.instructions is not None
        assert much.instructions > 10 * little.instructions


@pytest.mark.e2e
def test_every_proxy_gives_the_upstreams_answer_and_is_measured() -> None:
    with ExitStack() as stack:
        _, running = front_door.start(stack)
        answers = {name: ask(proxy) for name, proxy in running.items()}
        by_grpc = {infer(proxy) for proxy in running.values() if proxy.grpc}
        figures = front_door.measure(running, rounds=1, requests=40)
    assert len(set(answers.values())) == 1
    assert by_grpc == {proxies.infer_response()}
    assert set(figures["HTTP"]) == set(running) >= {"bare Envoy", "front door", "Python (aiohttp)"}
    assert set(figures["gRPC"]) >= {"bare Envoy", "front door"}
    for protocol in ("HTTP", "gRPC"):
        assert all(each["cpu_us"]["median"] > 0 for each in figures[protocol].values())


def ask(proxy: proxies.Proxy) -> bytes:
    connection = http.client.HTTPConnection(proxy.address, timeout=10)
    connection.request("POST", proxies.PATH, front_door.BODY, dict(proxy.headers))
    return connection.getresponse().read()


def infer(proxy: proxies.Proxy) -> bytes:
    with grpc.insecure_channel(str(proxy.grpc)) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        answer: bytes = call(proxies.infer_request(), metadata=tuple(proxy.headers.items()), timeout=10)
        return answer
