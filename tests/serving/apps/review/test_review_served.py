"""The app over HTTP with its models in a real Triton, asked by OpenAI's client."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image
from review_parts import image_part
from waiting import free_ports

from models.bundle import Bundle
from serving.apps.config import AppsConfig
from serving.apps.review.api import create_app
from serving.fleet import Fleet
from serving.triton import server
from serving.triton.repository import write_repository

pytestmark = [pytest.mark.e2e, pytest.mark.build]


def until(answers: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 180
    while not answers():
        assert time.monotonic() < deadline, f"not within 180 s: {what}"
        time.sleep(0.1)


def ok(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory, bundles: dict[str, Bundle]) -> Iterator[str]:
    """The address of a Triton that serves the app's models."""
    folder = tmp_path_factory.mktemp("triton")
    fleet = Fleet.model_validate(
        {
            "fleet": "test",
            "models": {name: {} for name in bundles},
            "sites": {"here": {"front_door": "127.0.0.1:9000"}},
        }
    )
    write_repository(fleet, "here", bundles, folder / "repository", flavour="embedded")
    http, grpc, metrics = free_ports(3)
    argv, env = server.command(folder / "repository", http, grpc, metrics, list(bundles), folder / "runtime")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, env=env, stdout=log, stderr=subprocess.STDOUT)
    try:
        until(
            lambda: all(ok(f"http://127.0.0.1:{http}/v2/models/{name}/ready") for name in bundles), "Triton"
        )
        yield f"127.0.0.1:{grpc}"
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def app(triton: str, config: Callable[..., AppsConfig]) -> Iterator[str]:
    """The address of the app."""
    (port,) = free_ports(1)
    running = uvicorn.Server(uvicorn.Config(create_app(config(triton)), port=port, log_level="warning"))
    thread = threading.Thread(target=running.run)
    thread.start()
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: ok(f"{address}/-/ready/review"), "the app")
        yield address
    finally:
        running.should_exit = True
        thread.join(60)


def test_texts_and_pictures(app: str, frame: Image.Image) -> None:
    with openai.OpenAI(api_key="any", base_url=f"{app}/v1", max_retries=0) as client:
        ask = client.moderations.create
        assert ask(input="天气很好").results[0].flagged is False
        with ThreadPoolExecutor(4) as threads:
            parts = [image_part(frame), image_part(frame.crop((0, 0, 1280, 120)))] * 2
            answers = list(threads.map(lambda part: ask(model="review", input=[part]), parts))
        assert [answer.results[0].headend["decision"] for answer in answers] == ["block", "pass"] * 2  # type: ignore[attr-defined]
        with pytest.raises(openai.BadRequestError, match="not fetched"):
            ask(input=[{"type": "image_url", "image_url": {"url": "http://localhost/a.png"}}])


def test_it_answers_others_while_it_works(app: str, frame: Image.Image) -> None:
    large = image_part(frame.resize((3840, 2160)))
    with ThreadPoolExecutor(2) as threads, httpx.Client(base_url=app, timeout=300, trust_env=False) as client:
        working = [threads.submit(client.post, "/v1/moderations", json={"input": [large]}) for _ in range(2)]
        answered = 0
        while not all(work.done() for work in working):
            assert client.get("/-/ready/review").status_code == httpx.codes.OK
            answered += 1
        assert answered > 3
        assert {work.result().status_code for work in working} == {httpx.codes.OK}


def test_models_that_do_not_answer(config: Callable[..., AppsConfig], frame: Image.Image) -> None:
    (nobody,) = free_ports(1)
    with TestClient(create_app(config(f"127.0.0.1:{nobody}"))) as client:
        answer = client.post("/v1/moderations", json={"input": [image_part(frame)]})
        assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE
        assert answer.json()["error"]["code"] == "model_unavailable"
        assert client.post("/v1/moderations", json={"input": "加微信"}).status_code == httpx.codes.OK
