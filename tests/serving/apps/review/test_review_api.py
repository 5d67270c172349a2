"""The HTTP of the review app, through OpenAI's client, with the real models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fastapi import FastAPI
from openai.types import ModerationCreateResponse
from PIL import Image
from review_parts import image_part

from models.errors import DeclarationError
from serving.apps.review.verdict import OPENAI_CATEGORIES

pytestmark = pytest.mark.build

MakeApp = Callable[..., FastAPI]


def http(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://here", timeout=120)


def client(app: FastAPI) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key="any", base_url="http://here/v1", http_client=http(app), max_retries=0)


def headend(answer: ModerationCreateResponse, place: int = 0) -> dict[str, Any]:
    return answer.results[place].headend  # type: ignore[attr-defined,no-any-return]


async def test_a_text(make_app: MakeApp) -> None:
    answer = await client(make_app()).moderations.create(input="来玩百家樂")
    assert answer.model == "review"
    assert answer.id.startswith("modr-")
    (result,) = answer.results
    assert result.flagged
    assert result.categories.sexual is False
    assert result.category_scores.violence_graphic == 0
    assert headend(answer)["decision"] == "block"
    assert headend(answer)["evidence"]["terms"][0]["list"] == "gambling-zh"
    assert set(OPENAI_CATEGORIES) <= set(result.categories.model_dump(by_alias=True))


async def test_several_texts(make_app: MakeApp) -> None:
    answer = await client(make_app()).moderations.create(model="review", input=["天气很好", "加微信", ""])
    assert [headend(answer, i)["decision"] for i in range(3)] == ["pass", "review", "pass"]


async def test_a_picture_with_text(make_app: MakeApp, frame: Image.Image) -> None:
    parts = [{"type": "text", "text": "看"}, image_part(frame, "JPEG", quality=90)]
    answer = await client(make_app()).moderations.create(model="omni-moderation-latest", input=parts)  # type: ignore[arg-type]
    (result,) = answer.results
    assert result.category_scores.sexual < 0.2
    assert result.category_applied_input_types.sexual == ["image"]
    found = headend(answer)
    assert found["decision"] == "block"
    assert {term["term"] for term in found["evidence"]["terms"]} >= {"首存优惠", "百家乐", "加微信"}
    assert {term["input"] for term in found["evidence"]["terms"]} == {1}
    (image,) = found["evidence"]["images"]
    assert (image["format"], image["width"], image["height"], image["input"]) == ("JPEG", 1280, 720, 1)
    assert image["looked_at"][0]["lines"][0]["text"] == "新闻频道"


async def test_an_animation_is_searched(make_app: MakeApp, frame: Image.Image) -> None:
    plain, darker = (Image.new("RGB", (640, 360), (20, 40, blue)) for blue in (60, 30))
    caption = frame.crop((0, 200, 640, 560))
    part = image_part(plain, "WEBP", save_all=True, append_images=[darker, caption])
    found = headend(await client(make_app()).moderations.create(input=[part]))
    assert found["evidence"]["images"][0]["frames"] == 3
    assert {term["frame"] for term in found["evidence"]["terms"]} == {2}


async def test_boxes_are_in_pixels_of_a_large_picture(make_app: MakeApp, frame: Image.Image) -> None:
    large = frame.resize((5120, 2880))
    found = headend(await client(make_app()).moderations.create(input=[image_part(large, "JPEG")]))
    line = next(
        line for line in found["evidence"]["images"][0]["looked_at"][0]["lines"] if line["text"] == "新闻频道"
    )
    assert line["polygon"][0] == pytest.approx([240, 168], abs=40)
    assert line["polygon"][2] == pytest.approx([944, 352], abs=40)


@pytest.mark.parametrize(
    ("part", "status", "message"),
    [
        ("https://example.org/a.png", 400, "not fetched"),
        ("data:image/png;base64,aGVsbG8=", 400, "no picture that can be read"),
        ("data:image/png;base64,", 400, "empty"),
    ],
)
async def test_bad_pictures(make_app: MakeApp, part: str, status: int, message: str) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        await client(make_app()).moderations.create(input=[{"type": "image_url", "image_url": {"url": part}}])
    assert caught.value.status_code == status
    assert caught.value.param == "input.0.image_url.url"


async def test_an_unknown_model(make_app: MakeApp) -> None:
    with pytest.raises(openai.NotFoundError, match="known: `review`, `omni-moderation-latest`"):
        await client(make_app()).moderations.create(model="whisper-1", input="a")


async def test_bodies_that_are_no_request(make_app: MakeApp) -> None:
    async with http(make_app()) as session:
        for body in (b"", b"{", b"[1]"):
            answer = await session.post("/v1/moderations", content=body)
            assert answer.status_code == 400
            assert answer.json()["error"]["type"] == "invalid_request_error"
        assert (await session.get("/v1/moderations")).status_code == 405
        schema = (await session.get("/openapi.json")).json()
        assert "requestBody" in schema["paths"]["/v1/moderations"]["post"]


async def test_the_hop_is_handed_on(make_app: MakeApp, runtime: Any) -> None:
    runtime.hops.clear()
    part = image_part(Image.new("RGB", (64, 64)))
    async with http(make_app()) as session:
        await session.post("/v1/moderations", json={"input": [part]}, headers={"x-headend-hop": "1"})
    assert runtime.hops == {"1"}


async def test_the_policy_file_is_taken_up_while_serving(make_app: MakeApp, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    text = "policy: mine\nversion: '1'\nterms: {x: {category: own, action: review, terms: [TERM]}}"
    path.write_text(text.replace("TERM", "苹果"))
    ask = client(make_app(path)).moderations.create
    assert headend(await ask(input="苹果"))["decision"] == "review"
    path.write_text(text.replace("TERM", "香蕉"))
    changed = headend(await ask(input="苹果"))
    assert (changed["decision"], changed["policy"]["status"]) == ("pass", "current")
    path.write_text(text.replace("terms:", "trems:"))
    stale = headend(await ask(input="香蕉"))
    assert (stale["decision"], stale["policy"]["status"]) == ("review", "stale")
    assert stale["policy"]["version"] == changed["policy"]["version"]
    assert "did you mean `terms`" in stale["policy"]["error"]


async def test_it_does_not_start_with_an_invalid_policy(make_app: MakeApp, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("policy: mine")
    with pytest.raises(DeclarationError, match="version"):
        make_app(path)


async def test_requests_at_once_get_their_own_answers(make_app: MakeApp, frame: Image.Image) -> None:
    ask = client(make_app()).moderations.create
    pictures = [frame.crop((0, 220, 640, 360)), frame.crop((0, 20, 640, 120))]
    answers = await asyncio.gather(*(ask(input=[image_part(pictures[i % 2])]) for i in range(6)))
    assert [headend(answer)["decision"] for answer in answers] == ["block", "pass"] * 3
