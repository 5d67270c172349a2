"""What breaks at one site is answered by the other, and what is full spills over."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import httpx
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http.aio as triton_http_aio
from router_parts import SITES, inputs, settles
from tritonclient.utils import InferenceServerException

from serving.fleet import DEFAULT_CLASS
from serving.router import envoy
from serving.router.view import Pool

pytestmark = pytest.mark.e2e


def answered_by(two: Any, model: str = "echo") -> str:
    return httpx.get(f"{two.here.url}/v2/models/{model}/ready").raise_for_status().headers["x-headend-site"]


def unwell(site: Any) -> list[str]:
    """Endpoints that the site's front door would not use now; the last resort is never among them."""
    text = httpx.get(f"http://127.0.0.1:{site.view.ports.admin}/clusters", timeout=5).text
    flags = (line for line in text.splitlines() if "::health_flags::" in line)
    return [line for line in flags if not line.endswith(("::healthy", "::/degraded_eds_health"))]


async def steadily(url: str, during: Callable[[], None]) -> Counter[str]:
    """Calls of every kind without pause, while `during` runs in a thread; how many of each were answered."""
    done = threading.Event()
    answers: Counter[str] = Counter()

    async def repeat(kind: str, call: Callable[[], Awaitable[Any]]) -> None:
        while not done.is_set():
            await call()
            answers[kind] += 1
            await asyncio.sleep(0.02)

    def work() -> None:
        try:
            during()
        finally:
            done.set()

    door = url.removeprefix("http://")
    async with (
        triton_grpc_aio.InferenceServerClient(door) as grpc,
        triton_http_aio.InferenceServerClient(door) as http,
        httpx.AsyncClient(base_url=url, timeout=30) as app,
    ):

        async def ask_app() -> None:
            response = await app.post("/v1/moderations", content=b"x" * 100_000)
            response.raise_for_status()
            answers[response.headers["x-headend-site"]] += 1

        await asyncio.gather(
            asyncio.to_thread(work),
            *(repeat("grpc", lambda: grpc.infer("echo", inputs(triton_grpc_aio, (1000,)))) for _ in range(3)),
            *(repeat("http", lambda: http.infer("echo", inputs(triton_http_aio, (1000,)))) for _ in range(3)),
            *(repeat("app", ask_app) for _ in range(3)),
        )
    return answers


@pytest.mark.parametrize("part", ["triton", "app"])
async def test_a_killed_part_fails_no_request_and_is_used_again(two: Any, part: str) -> None:
    path = "/v2/models/echo/ready" if part == "triton" else "/v1/moderations"

    def ask() -> str:
        method = "GET" if part == "triton" else "POST"
        return httpx.request(method, two.here.url + path).raise_for_status().headers["x-headend-site"]

    def kill_and_restart() -> None:
        time.sleep(1)
        two.here.parts[part].kill()
        time.sleep(3)
        assert ask() == "there"
        two.here.restart(part)
        settles(lambda: ask() == "here")

    answers = await steadily(two.here.url, kill_and_restart)
    assert all(answers[kind] > 10 for kind in ("grpc", "http", "app")), answers


async def test_a_killed_envoy_of_the_other_site_fails_no_request_here(two: Any) -> None:
    def kill_and_restart() -> None:
        time.sleep(1)
        two.there.parts["envoy"].kill()
        time.sleep(2)
        two.there.restart("envoy")
        settles(lambda: not unwell(two.here))

    answers = await steadily(two.here.url, kill_and_restart)
    assert answers["there"] == 0
    assert all(answers[kind] > 10 for kind in ("grpc", "http", "app")), answers


async def test_what_the_plan_leads_away_is_answered_here_when_the_other_site_is_gone(two: Any) -> None:
    """Before this front door has noticed, and after; the plan knows nothing of it."""
    away = {(Pool(*pool), DEFAULT_CLASS): {"there": 1.0} for pool in (("model", "echo"), ("app", "review"))}
    out = two.here.directory / "envoy"

    def kill_and_restart() -> None:
        time.sleep(3)  # the scripts have read the shares
        two.there.parts["envoy"].kill()
        time.sleep(5)
        two.there.restart("envoy")

    envoy.write_shares(replace(two.here.view, plan=away), out)
    try:
        answers = await steadily(two.here.url, kill_and_restart)
    finally:
        envoy.write_shares(two.here.view, out)
    settles(lambda: not unwell(two.here))
    assert min(answers[site] for site in SITES) > 20, answers
    assert all(answers[kind] > 10 for kind in ("grpc", "http", "app")), answers


@pytest.fixture
def alone(two: Any) -> Iterator[None]:
    """The other site is gone, and this one's Triton stands still until a test lets it go on."""
    triton = two.here.parts["triton"].process
    two.there.parts["envoy"].kill()
    os.killpg(triton.pid, signal.SIGSTOP)
    yield
    os.killpg(triton.pid, signal.SIGCONT)
    two.there.restart("envoy")
    settles(lambda: not unwell(two.here))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("module", [triton_grpc_aio, triton_http_aio])
async def test_what_is_late_is_asked_while_nobody_else_is_there(two: Any, module: Any) -> None:
    """On a full machine a server may answer no probe for seconds."""
    homes = ("model.echo.grpc::", "model.echo.http::")
    # Of each, this site and the other.
    settles(lambda: sum(line.startswith(homes) for line in unwell(two.here)) == 4)
    settles(lambda: httpx.get(f"{two.here.url}/readyz").status_code == 503)
    async with module.InferenceServerClient(two.here.door) as client:
        asked = [asyncio.create_task(client.infer("echo", inputs(module, (3,)))) for _ in range(4)]
        await asyncio.sleep(1)
        assert not any(each.done() for each in asked)
        os.killpg(two.here.parts["triton"].process.pid, signal.SIGCONT)
        await asyncio.gather(*asked)


@pytest.mark.parametrize("module", [triton_grpc_aio, triton_http_aio])
async def test_a_full_queue_spills_to_the_other_site(two: Any, module: Any) -> None:
    before = executed(two, "there")
    async with module.InferenceServerClient(two.here.door) as client:

        async def infer(**options: Any) -> None:
            await client.infer("slow", inputs(module, (1, 4)), **options)

        async def keep_full() -> None:
            """Asks only this site, again and again: it works on one request and lets one wait."""
            while True:
                with suppress(InferenceServerException):
                    await infer(headers={"x-headend-hop": "1"})
                await asyncio.sleep(0.02)

        crowd = [asyncio.create_task(keep_full()) for _ in range(6)]
        try:
            await asyncio.sleep(0.5)
            # One of them may find a free place here; all of them are answered.
            for _ in range(20):
                await infer()
                if executed(two, "there") > before:
                    break
            assert executed(two, "there") > before
        finally:
            for each in crowd:
                each.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)


@pytest.mark.parametrize("module", [triton_grpc_aio, triton_http_aio])
async def test_where_all_is_full_the_caller_hears_what_triton_says(two: Any, module: Any) -> None:
    async with module.InferenceServerClient(two.here.door) as client:
        asked = (client.infer("slow", inputs(module, (1, 4))) for _ in range(16))
        results = await asyncio.gather(*asked, return_exceptions=True)
    failures = [each for each in results if isinstance(each, BaseException)]
    assert 0 < len(failures) < 16
    assert all("maximum queue size" in str(each) for each in failures)


@pytest.mark.parametrize("module", [triton_grpc_aio, triton_http_aio])
async def test_what_the_front_door_counts_as_too_much_goes_to_the_other_site(two: Any, module: Any) -> None:
    """The model `guarded` has no limit in Triton: each front door leaves room for two at a time."""
    before = {site: executed(two, site, "guarded") for site in SITES}

    async def ask(number: int) -> list[Any]:
        async with module.InferenceServerClient(two.here.door) as client:
            asked = (client.infer("guarded", inputs(module, (1, 4))) for _ in range(number))
            return await asyncio.gather(*asked, return_exceptions=True)

    four = await ask(4)
    assert not [each for each in four if isinstance(each, BaseException)]
    assert {site: executed(two, site, "guarded") - before[site] for site in SITES} == {"here": 2, "there": 2}

    eight = await ask(8)
    refused = [each for each in eight if isinstance(each, BaseException)]
    assert 3 <= len(refused) <= 4  # two that come at once may both take the last place
    assert all("Every place that may take this is full" in str(each) for each in refused)


def executed(two: Any, site: str, model: str = "slow") -> int:
    url = f"{getattr(two, site).url}/v2/models/{model}/stats"
    stats = httpx.get(url, headers={"x-headend-hop": "1"}).json()
    return int(stats["model_stats"][0]["inference_stats"]["success"]["count"])


def test_a_stream_cut_off_ends_with_an_error_and_the_next_one_works(two: Any) -> None:
    """A stream is one request: what was under way is the client's to ask again."""
    answers: queue.Queue[Any] = queue.Queue()
    with triton_grpc.InferenceServerClient(two.here.door) as client:
        client.start_stream(lambda result, error: answers.put(error or result))
        client.async_stream_infer("echo", inputs(triton_grpc, (5,)))
        assert answers.get(timeout=20).as_numpy("y").shape == (5,)
        two.here.parts["triton"].kill()
        try:
            assert isinstance(answers.get(timeout=20), InferenceServerException)
            client.stop_stream()
            client.start_stream(lambda result, error: answers.put(error or result))
            client.async_stream_infer("echo", inputs(triton_grpc, (6,)))
            assert answers.get(timeout=20).as_numpy("y").shape == (6,)
            client.stop_stream()
        finally:
            two.here.restart("triton")
            settles(lambda: answered_by(two) == "here")


@pytest.mark.parametrize("size", [envoy.routes.REPLAY_BYTES - 1000, envoy.routes.REPLAY_BYTES + 2_000_000])
def test_a_body_is_sent_again_only_while_it_is_kept(two: Any, size: int) -> None:
    """What is larger than the replay limit gets the full site's own answer instead."""
    response = httpx.post(
        f"{two.here.url}/v1/moderations", content=b"x" * size, headers={"x-test-busy": "here"}, timeout=30
    )
    if size < envoy.routes.REPLAY_BYTES:
        assert response.json() == {"site": "there", "bytes": size, "hop": "1"}
    else:
        assert response.status_code == 503


@pytest.fixture
def down(two: Any) -> Iterator[None]:
    """Both apps and both Tritons are gone."""
    parts = [getattr(two, site).parts[part] for site in SITES for part in ("app", "triton")]
    for part in parts:
        part.kill()
    yield
    for part in parts:
        part.start()
    for part in parts:
        part.wait()
    for site in (two.here, two.there):
        settles(lambda url=site.url: httpx.get(f"{url}/readyz").status_code == 200)


@pytest.mark.usefixtures("down")
def test_without_any_site_each_api_says_so_in_its_style(two: Any) -> None:
    url = two.here.url
    settles(lambda: httpx.get(f"{url}/readyz").status_code == 503)
    assert httpx.get(f"{url}/healthz").status_code == 200
    settles(lambda: "No site can answer" in httpx.post(f"{url}/v1/moderations").text)
    error = httpx.post(f"{url}/v1/moderations").json()["error"]
    assert error["type"] == "server_error"
    settles(lambda: "No site can answer" in httpx.get(f"{url}/v2/models/echo").json()["error"])

    with triton_grpc.InferenceServerClient(two.here.door) as client:

        def refusal() -> str:
            with pytest.raises(InferenceServerException) as caught:
                client.infer("echo", inputs(triton_grpc, (3,)))
            assert caught.value.status() == "StatusCode.UNAVAILABLE"
            return str(caught.value.message())

        settles(lambda: "No site can answer" in refusal())
