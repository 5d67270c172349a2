"""Requests as OpenAI's clients send them, and what is said about those that are wrong."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.apps.errors import AppError, TooLargeError, UnknownModelError
from serving.apps.review import request
from serving.apps.review.request import ImagePart, TextPart

TEXT = {"type": "text", "text": "a"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}


def parse(**body: Any) -> request.Request:
    return request.parse(json.dumps(body).encode())


def test_a_text_is_one_input() -> None:
    assert parse(input="a").inputs() == [[TextPart(type="text", text="a")]]


def test_each_of_several_texts_is_an_input() -> None:
    assert [[part.text for part in parts] for parts in parse(input=["a", ""]).inputs()] == [["a"], [""]]  # type: ignore[union-attr]


def test_parts_are_one_input() -> None:
    ((text, image),) = parse(input=[TEXT, IMAGE], model="omni-moderation-latest").inputs()
    assert isinstance(text, TextPart)
    assert isinstance(image, ImagePart)
    assert request.picture_bytes(image.image_url.url, param="x") == b"hi"


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "input", "Field required"),
        ({"input": []}, "input", "may not be empty"),
        ({"input": None}, "input", "must be a text"),
        ({"input": 5}, "input", "must be a text"),
        ({"input": ["a", 5]}, "input.1", "valid string"),
        ({"input": [TEXT, "a"]}, "input.1", "object"),
        ({"input": [{"type": "video"}]}, "input.0", "'text', 'image_url'"),
        ({"input": [{"type": "text"}]}, "input.0.text", "Field required"),
        ({"input": [{"type": "image_url", "image_url": {}}]}, "input.0.image_url.url", "Field required"),
        ({"input": "a", "model": 5}, "model", "valid string"),
    ],
)
def test_wrong_requests_say_where(body: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(AppError, match=message) as caught:
        parse(**body)
    assert caught.value.status == 400
    assert caught.value.param == param


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"a"', b"\xff"])
def test_bodies_that_are_no_request(body: bytes) -> None:
    with pytest.raises(AppError, match="body") as caught:
        request.parse(body)
    assert caught.value.status == 400


def test_an_unknown_model_names_the_known() -> None:
    with pytest.raises(UnknownModelError, match=r"`review`, `omni-moderation-latest`"):
        parse(input="a", model="gpt-9")


def test_limits() -> None:
    with pytest.raises(TooLargeError, match="entries"):
        parse(input=["a"] * (request.MAX_INPUTS + 1))
    with pytest.raises(TooLargeError, match="characters"):
        parse(input=["a" * request.MAX_CHARACTERS, "a"])


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://example.org/a.png", "not fetched"),
        ("http://169.254.169.254/latest", "not fetched"),
        ("file:///etc/passwd", "not fetched"),
        ("", "not fetched"),
        ("data:image/png,abc", "of the form"),
        ("data:image/png;base64", "of the form"),
        ("data:image/png;base64,a b", "not valid base64"),
        ("data:image/png;base64,abcde", "not valid base64"),
    ],
)
def test_pictures_come_as_data_urls_alone(url: str, message: str) -> None:
    with pytest.raises(AppError, match=message) as caught:
        request.picture_bytes(url, param="input.0.image_url.url")
    assert caught.value.status == 400
    assert caught.value.param == "input.0.image_url.url"


@given(st.binary())
def test_data_urls_carry_bytes(data: bytes) -> None:
    url = "data:image/jpeg;base64," + base64.b64encode(data).decode()
    assert request.picture_bytes(url, param="x") == data
