"""What a running front door takes up: new shares, drains, limits; and what it does with a broken file."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import tritonclient.grpc.aio as triton_grpc_aio
from router_parts import SITES, inputs, settles
from tritonclient.utils import InferenceServerException

from models.files import write_atomic
from serving.fleet import DEFAULT_CLASS, Limits
from serving.router import envoy
from serving.router.options import Choice, Option, Threshold
from serving.router.transition import Transition
from serving.router.view import Pool

pytestmark = pytest.mark.e2e


def test_new_shares_take_effect_without_restart(two: Any) -> None:
    """Half of the load to each site, then all of it elsewhere, then as derived."""
    site = two.here

    def split(tries: int = 60) -> Counter[str]:
        with httpx.Client(base_url=site.url) as client:
            answers = (client.post("/v1/moderations") for _ in range(tries))
            return Counter(each.headers.get("x-headend-site", "no site") for each in answers)

    def give(here: float, there: float) -> None:
        plan = {(Pool("app", "review"), DEFAULT_CLASS): {"here": here, "there": there}}
        envoy.write_shares(replace(site.view, plan=plan), site.directory / "envoy")

    process = site.parts["envoy"].process
    assert process
    settles(lambda: split() == {"here": 60})  # what an earlier test ejected comes back first
    try:
        give(here=0.5, there=0.5)
        settles(lambda: min(split()[name] for name in SITES) > 15)
        give(here=0, there=1)
        settles(lambda: split() == {"there": 60})
    finally:
        envoy.write_shares(site.view, site.directory / "envoy")
    settles(lambda: split() == {"here": 60})
    assert process.poll() is None


def test_a_draining_site_keeps_nothing_however_idle(two: Any) -> None:
    """A request that finds an idle server stays, by the plan; while the site drains it does not."""
    site = two.here
    idle = replace(site.view, thresholds={"app.review": Threshold(stay_below=4, leave_at=8)})

    def answered() -> set[str]:
        with httpx.Client(base_url=site.url) as client:
            return {client.post("/v1/moderations").headers["x-headend-site"] for _ in range(5)}

    settles(lambda: answered() == {"here"})
    try:
        envoy.write_shares(idle, site.directory / "envoy")
        time.sleep(2)  # the script has read them
        assert answered() == {"here"}
        drained = replace(idle, transition=Transition(draining=True))
        envoy.write_shares(drained, site.directory / "envoy")
        settles(lambda: answered() == {"there"})
    finally:
        envoy.write_shares(site.view, site.directory / "envoy")
    settles(lambda: answered() == {"here"})


def test_a_request_goes_where_it_is_answered_sooner(two: Any) -> None:
    """By what the site says of others' requests there, and by how many of its own the front door counts."""
    site, pool = two.here, Pool("app", "review")
    out = site.directory / "envoy"

    def weigh(here: Option = Option(0.05, 1, 0.02), **there: Any) -> None:  # noqa: B008 - it is frozen
        choice = Choice(here, {"there": Option(**{"base_s": 0.06, "each_s": 0.02, **there})})
        envoy.write_shares(replace(site.view, choices={pool.key: choice}), out)

    async def asked(requests: int) -> Counter[str]:
        async with httpx.AsyncClient(base_url=site.url, timeout=30) as client:
            answers = await asyncio.gather(
                *(client.post("/v1/moderations", headers={"x-test-seconds": "1"}) for _ in range(requests))
            )
        return Counter(each.raise_for_status().headers["x-headend-site"] for each in answers)

    def split(requests: int) -> dict[str, int]:
        return dict(asyncio.run(asked(requests)))

    settles(lambda: split(1) == {"here": 1})
    try:
        weigh(servers=1)
        settles(lambda: split(2) == {"here": 1, "there": 1})
        # Each takes as many as the other, whoever counts them.
        assert max(split(6).values()) <= 4
        weigh(servers=1, others=50)
        settles(lambda: split(2) == {"here": 2})
        weigh(servers=8, base_s=0.01, others=7, rooms={DEFAULT_CLASS: 7})
        settles(lambda: split(2) == {"here": 2})
        weigh(servers=8, base_s=0.01)
        settles(lambda: split(4) == {"there": 4})
        weigh(servers=1, base_s=1e6, looked=1)
        settles(lambda: split(2) == {"there": 2})
        weigh(servers=8, base_s=0.01, here=Option(1e6, 1, 0.02, looked=1))
        settles(lambda: split(2) == {"here": 2})
    finally:
        envoy.write_shares(site.view, out)
    settles(lambda: split(1) == {"here": 1})


@pytest.fixture
def tight(two: Any) -> Iterator[None]:
    """Limits that are easily met, taken up by the running front door."""
    site = two.here
    out, log = site.directory / "envoy", site.directory / "access.log"
    limits = Limits(body_mib=1, timeout_s=0.4, concurrency=1)
    envoy.write_config(replace(site.view, limits=limits), out, access_log=log)
    large = {"url": f"{site.url}/v1/moderations", "content": b"x" * 2_000_000}
    settles(lambda: httpx.post(**large).status_code == 413)
    # Listeners and clusters are taken up each in their own time.
    clusters = f"http://127.0.0.1:{site.view.ports.admin}/clusters"
    settles(lambda: "app.review.http::default_priority::max_requests::1\n" in httpx.get(clusters).text)
    yield
    envoy.write_config(site.view, out, access_log=log)
    settles(lambda: httpx.post(**large).status_code == 200)


@pytest.mark.usefixtures("tight")
async def test_limits_are_said_in_the_apis_style(two: Any) -> None:
    async def seconds(number: float) -> httpx.Response:
        async with httpx.AsyncClient(base_url=two.here.url, timeout=30) as client:
            return await client.post("/v1/moderations", headers={"x-test-seconds": str(number)})

    # One is worked on and one waits; both are late. The rest is refused.
    answers = await asyncio.gather(*(seconds(20) for _ in range(4)))
    said = Counter((each.status_code, each.json()["error"]["message"]) for each in answers)
    assert set(said) == {
        (504, "No answer in time: within 0.4 seconds, or the request's own deadline."),
        (429, "Every place that may take this is full; ask again shortly."),
    }
    # A connection of its own: one from before still has the listener's old sentences.
    fresh = [("grpc.use_local_subchannel_pool", 1)]
    async with triton_grpc_aio.InferenceServerClient(two.here.door, channel_args=fresh) as client:
        with pytest.raises(InferenceServerException, match=r"within 0\.4 seconds") as caught:
            await client.infer("slow", inputs(triton_grpc_aio, (1, 4)))
        assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
        asked = (client.infer("slow", inputs(triton_grpc_aio, (1, 4))) for _ in range(3))
        results = await asyncio.gather(*asked, return_exceptions=True)
    refused = [each for each in results if isinstance(each, InferenceServerException)]
    full = [each for each in refused if "is full" in str(each)]
    assert {each.status() for each in full} == {"StatusCode.RESOURCE_EXHAUSTED"}
    # Triton's own "Deadline Exceeded" does not come first.
    late = [str(each) for each in refused if each.status() == "StatusCode.DEADLINE_EXCEEDED"]
    assert all("within 0.4 seconds" in each for each in late), late


def test_a_broken_file_leaves_what_was(two: Any) -> None:
    site = two.here
    path: Path = site.directory / "envoy" / "endpoints" / "door.json"
    counter = "cluster.door.update_failure"
    counters = site.stats("update_(failure|rejected)$")
    assert len(counters) > 3
    assert not any(counters.values()), counters
    write_atomic(path, b'{"resources": [{"@type": "nonsense"}]}')
    try:
        settles(lambda: site.stats(f"^{counter}$")[counter] > 0)
        response = httpx.post(f"{site.url}/v1/moderations")
        assert response.headers["x-headend-site"] == "here"
    finally:
        envoy.write_shares(site.view, site.directory / "envoy")
