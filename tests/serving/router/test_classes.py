"""Classes and deadlines at the front doors of two real sites: who waits, who is refused, and how."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
from tritonclient.utils import InferenceServerException

from serving.fleet import ATTEMPTS, Class

pytestmark = pytest.mark.e2e

BODY = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [0.0]}]}
FULL = "Every place that may take this is full; ask again shortly."


def infer(model: str) -> str:
    return f"/v2/models/{model}/infer"


def tensors() -> list[Any]:
    given = triton_grpc.InferInput("x", [1, 1], "FP32")
    given.set_data_from_numpy(np.zeros((1, 1), np.float32))
    return [given]


async def ask(client: httpx.AsyncClient, model: str, number: int, **headers: str) -> list[httpx.Response]:
    named = {f"x-headend-{name}".replace("_", "-"): value for name, value in headers.items()}
    return await asyncio.gather(
        *(client.post(infer(model), json=BODY, headers=named, timeout=30) for _ in range(number))
    )


@pytest.mark.parametrize("header", ["class", "deadline-ms"])
def test_what_makes_no_sense_is_refused(two: Any, header: str) -> None:
    headers = {f"x-headend-{header}": "urgent"}
    answer = httpx.post(two.here.url + infer("echo"), json=BODY, headers=headers)
    assert answer.status_code == 400
    assert f"x-headend-{header}" in answer.json()["error"]
    answer = httpx.post(f"{two.here.url}/v1/moderations", headers=headers)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    with (
        triton_grpc.InferenceServerClient(two.here.door) as client,
        pytest.raises(InferenceServerException, match=f"x-headend-{header}") as caught,
    ):
        client.infer("echo", tensors(), headers=headers)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


async def test_batch_is_refused_where_others_still_wait(two: Any) -> None:
    """Each site works on one request of `guarded` and lets one wait; batch may not join the queue."""
    async with httpx.AsyncClient(base_url=two.here.url) as client:
        for class_, taken in {"batch": 2, "interactive": 4, "live": 4}.items():
            answers = await ask(client, "guarded", 6, **{"class": class_})
            refused = [each for each in answers if each.status_code == 429]
            told = [
                tuple(each.headers.get(name) for name in ("x-headend-site", "x-envoy-attempt-count"))
                for each in answers
            ]
            # Two that come at once may both take the last place of a site.
            assert 6 - taken - 2 <= len(refused) <= 6 - taken, (class_, told)
            assert {each.status_code for each in answers} == {200, 429}
            for each in refused:
                assert each.json() == {"error": FULL}
                assert each.headers["x-headend-refused"] == "full"
                assert each.headers["retry-after"] == ("5" if class_ == "batch" else "1")
                assert 1 <= int(each.headers["x-envoy-attempt-count"]) <= 4
    async with triton_grpc_aio.InferenceServerClient(two.here.door) as grpc:
        headers = {"x-headend-class": "batch"}
        asked = (grpc.infer("guarded", tensors(), headers=headers) for _ in range(5))
        results = await asyncio.gather(*asked, return_exceptions=True)
    errors = [each for each in results if isinstance(each, InferenceServerException)]
    assert errors
    assert {(each.status(), each.message()) for each in errors} == {("StatusCode.RESOURCE_EXHAUSTED", FULL)}


async def test_what_comes_from_other_sites_is_counted_too(two: Any) -> None:
    """With both places taken by guests, clients' requests go elsewhere: the room is not had twice."""
    async with (
        httpx.AsyncClient(base_url=two.here.peer_url) as peer,
        httpx.AsyncClient(base_url=two.here.url) as client,
    ):
        guests = asyncio.create_task(ask(peer, "guarded", 2))
        await asyncio.sleep(0.2)
        own = await ask(client, "guarded", 2)
        assert {each.headers["x-headend-site"] for each in own} == {"there"}
        assert {each.status_code for each in await guests} == {200}


async def test_a_deadline_ends_what_takes_longer(two: Any) -> None:
    async with httpx.AsyncClient(base_url=two.here.url) as client:
        begin = time.monotonic()
        (late,) = await ask(client, "slow", 1, deadline_ms="100")
        assert late.status_code == 504
        assert "deadline" in late.json()["error"]
        assert time.monotonic() - begin < 0.4
        (right,) = await ask(client, "slow", 1, deadline_ms="5000")
        assert right.status_code == 200


async def test_what_would_be_late_is_refused_at_once(two: Any) -> None:
    """`guarded` takes half a second: what has 400 ms is not even begun, at no site."""

    def executed() -> int:
        return sum(site.statistics("guarded")["inference_count"] for site in (two.here, two.there))

    before = executed()
    async with httpx.AsyncClient(base_url=two.here.url) as client:
        (late,) = await ask(client, "guarded", 1, deadline_ms="400")
        assert (late.status_code, late.headers["x-headend-refused"]) == (504, "late")
        assert int(late.headers["x-envoy-attempt-count"]) <= ATTEMPTS["interactive"]
    async with triton_grpc_aio.InferenceServerClient(two.here.door) as grpc:
        with pytest.raises(InferenceServerException, match="Refused at once") as caught:
            await grpc.infer("guarded", tensors(), headers={"x-headend-deadline-ms": "400"})
        assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
        assert executed() == before
        await grpc.infer("guarded", tensors(), client_timeout=5)


async def test_under_twice_the_load_live_holds_and_nothing_collapses(two: Any) -> None:
    """Both sites do 5 a second each; 20 a second come to one door, open-loop."""
    rates: dict[Class, int] = {"live": 3, "interactive": 4, "batch": 13}
    lasts = 12.0
    told: dict[Class, Counter[int]] = {class_: Counter() for class_ in rates}

    async with httpx.AsyncClient(
        base_url=two.here.url, limits=httpx.Limits(max_connections=400), timeout=30
    ) as client:

        async def one(class_: Class, at: float) -> None:
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            answer = await client.post(infer("paced"), json=BODY, headers={"x-headend-class": class_})
            told[class_][answer.status_code] += 1

        begin = time.monotonic() + 0.2
        starts = [
            (class_, begin + number / rate)
            for class_, rate in rates.items()
            for number in range(int(rate * lasts))
        ]
        await asyncio.gather(*(one(*start) for start in starts))

    assert all(set(found) <= {200, 429} for found in told.values()), told
    answered = {class_: told[class_][200] / (rate * lasts) for class_, rate in rates.items()}
    assert answered["live"] == 1, told
    assert answered["interactive"] > 0.95, told
    log = two.here.logged(lambda entry: entry["pool"] == "paced" and entry["method"] == "POST", len(starts))
    assert answered["batch"] < 0.5, told
    # 10 a second fit; what is left over by the urgent classes goes to batch.
    assert sum(found[200] for found in told.values()) > 0.9 * 10 * lasts, told
    assert all(entry["attempts"] <= ATTEMPTS[entry["class"]] for entry in log)

    # In units of the model's own work, for all that takes time is slow on a slow machine: seen by Triton,
    # nobody waits for more than the room holds; by the door, live has its answer within 15 times its work.
    took: dict[str, float] = {}
    for site in (two.here, two.there):
        done = site.statistics("paced")["inference_stats"]
        took = {part: done[part]["ns"] / done[part]["count"] / 1e6 for part in ("queue", "compute_infer")}
        assert took["queue"] < site.view.rooms["model.paced"].total * took["compute_infer"], took
    live = [entry["duration_ms"] for entry in log if entry["class"] == "live"]
    assert float(np.quantile(live, 0.9)) < 15 * took["compute_infer"]
