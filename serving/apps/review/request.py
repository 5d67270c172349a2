"""What `POST /v1/moderations` accepts: OpenAI's request.

https://platform.openai.com/docs/api-reference/moderations
"""

from __future__ import annotations

import binascii
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Tag, ValidationError

from serving.apps.errors import AppError, TooLargeError, UnknownModelError
from serving.fleet import ALIASES

MODEL = "review"
KNOWN = [MODEL, *(alias for alias, app in ALIASES.items() if app == MODEL)]

MAX_INPUTS = 64
"""Texts, or parts, in one request."""
MAX_CHARACTERS = 1_000_000
"""Of all texts in one request together."""


class TextPart(BaseModel):
    """A text among the parts of one input."""

    type: Literal["text"]
    text: str


class ImageUrl(BaseModel):
    """Where the picture is: a data URL."""

    url: str


class ImagePart(BaseModel):
    """A picture among the parts of one input."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Discriminator("type")]


def _kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "text"
    if not isinstance(value, list) or not value:
        return None
    return "texts" if isinstance(value[0], str) else "parts"


class Request(BaseModel):
    """The body: one text, several texts (a result each), or parts of one input (one result for all)."""

    input: Annotated[
        Annotated[str, Tag("text")]
        | Annotated[list[str], Tag("texts")]
        | Annotated[list[Part], Tag("parts")],
        Discriminator(_kind),
    ]
    model: str = MODEL

    def inputs(self) -> list[list[Part]]:
        """The parts of each input; a result is due for each."""
        if isinstance(self.input, str):
            return [[TextPart(type="text", text=self.input)]]
        if isinstance(self.input[0], str):
            return [[TextPart(type="text", text=str(text))] for text in self.input]
        return [[part for part in self.input if not isinstance(part, str)]]


def parse(body: bytes) -> Request:
    """Read and check a request.

    Raises `AppError` (400) that names the field and what would be right, `UnknownModelError` (404) and
    `TooLargeError` (413).
    """
    try:
        request = Request.model_validate_json(body)
    except ValidationError as error:
        raise _explain(error) from error
    if request.model not in KNOWN:
        raise UnknownModelError(request.model, KNOWN)
    if not isinstance(request.input, str) and len(request.input) > MAX_INPUTS:
        raise TooLargeError(f"`input` has {len(request.input)} entries; at most {MAX_INPUTS}.", param="input")
    texts = [part.text for parts in request.inputs() for part in parts if isinstance(part, TextPart)]
    if sum(map(len, texts)) > MAX_CHARACTERS:
        raise TooLargeError(f"`input` has more than {MAX_CHARACTERS:,} characters of text.", param="input")
    return request


def _explain(error: ValidationError) -> AppError:
    """The first thing wrong. What was sent is not repeated: it may be large, and it is under review."""
    first = error.errors(include_url=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return AppError(f"The body is not JSON: {first['ctx']['error']}.")
    if first["type"] in ("union_tag_not_found", "union_tag_invalid") and first["loc"] == ("input",):
        return AppError(
            "`input` must be a text, a list of texts, or a list of parts such as "
            '{"type": "text", "text": …} and {"type": "image_url", "image_url": {"url": "data:…"}}; '
            "it may not be empty.",
            param="input",
        )
    place = ".".join(_named(first["loc"]))
    return AppError(f"`{place or 'body'}`: {first['msg']}.", param=place or None)


def _named(loc: tuple[int | str, ...]) -> list[str]:
    """The place as the sender knows it, without pydantic's names for alternatives: `input.0.text`."""
    places = [str(part) for part in loc]
    if places[1:2] == ["parts"]:
        del places[3:4]  # which kind of part
    if places[:1] == ["input"]:
        del places[1:2]  # which kind of input
    return places


def picture_bytes(url: str, *, param: str) -> bytes:
    """The content of a data URL (RFC 2397).

    Nothing is ever fetched: a request could name any address that this machine reaches.
    Raises `AppError` (400) for every other URL and for broken base64.
    """
    if not url[:5].lower() == "data:":
        raise AppError(
            "Pictures are not fetched from addresses; send the picture itself as a data URL: "
            "data:image/png;base64,…",
            param=param,
            code="invalid_image_url",
        )
    head, comma, content = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise AppError(
            "The data URL must be of the form data:image/png;base64,…", param=param, code="invalid_image_url"
        )
    try:
        return binascii.a2b_base64(content, strict_mode=True)
    except ValueError as error:
        raise AppError(
            f"The data URL is not valid base64: {error}.", param=param, code="invalid_image_url"
        ) from error
