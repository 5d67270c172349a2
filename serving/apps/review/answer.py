"""What `POST /v1/moderations` answers: OpenAI's result, and under `headend` decision and evidence."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from serving.apps.review.policy import Action, Decision

InputType = Literal["text", "image"]


class _Answer(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Term(_Answer):
    """A term of the policy that was found."""

    category: str
    term_list: str = Field(serialization_alias="list")
    """The policy's list that has it."""
    term: str
    """As the policy writes it."""
    found: str
    """As it stands in the text."""
    inserted: int
    """Signs between its characters that the term does not have."""
    action: Action
    """What this match calls for."""
    confidence: float
    """How sure the text is: 1 for text sent, the recogniser's for text read in a picture."""
    where: InputType
    input: int
    """Which part of the input, from 0."""
    start: int
    """Code points before it, in the text sent or in the first of `lines`."""
    end: int
    """Code points up to its end, in the text sent or in the last of `lines`."""
    frame: int | None = None
    """In a picture: which frame."""
    lines: list[int] | None = None
    """In a picture: which of the frame's lines."""
    boxes: list[list[tuple[float, float]]] | None = None
    """In a picture: the corners of these lines."""


class Line(_Answer):
    """A line of text read in a picture."""

    polygon: list[tuple[float, float]]
    """Corners clockwise from the text box's top left, x and y in pixels of the upright picture."""
    text: str
    confidence: float
    direction: int
    """Degrees by which the text stands turned clockwise: 0, 90, 180 or 270."""


class Frame(_Answer):
    """A frame that was looked at."""

    frame: int
    """From 0."""
    scores: dict[str, float]
    """What the classifiers say, by category."""
    lines: list[Line]


class Image(_Answer):
    """A picture that was looked at."""

    input: int
    """Which part of the input, from 0."""
    format: str
    width: int
    """Pixels, upright."""
    height: int
    frames: int
    """Frames in the file; those looked at are listed in `looked_at`."""
    looked_at: list[Frame]


class Evidence(_Answer):
    """What the decision rests on."""

    terms: list[Term]
    """The strongest first; no more than `verdict.TERMS_SHOWN`."""
    terms_found: int
    """All that were found."""
    images: list[Image]


class PolicyStatus(_Answer):
    """The policy that decided."""

    name: str
    version: str
    """Its declared version and the beginning of its file's sha256."""
    status: Literal["current", "stale"]
    """`stale`: the file has changed and is not valid; the version named here stays in force."""
    error: str | None = None
    """What is wrong with the file."""


class Reason(_Answer):
    """Why the decision is not `pass`."""

    category: str
    action: Action
    score: float
    because: Literal["score", "term"]


class Headend(_Answer):
    """What this service adds to OpenAI's result."""

    decision: Decision
    reasons: list[Reason]
    judged: list[str]
    """Categories that this input was judged for. The others were not: their `false` and 0 mean nothing."""
    policy: PolicyStatus
    evidence: Evidence


class Result(_Answer):
    """One input's result. `categories` has OpenAI's and the policy's own."""

    flagged: bool
    """Whether the decision is other than `pass`."""
    categories: dict[str, bool]
    category_scores: dict[str, float]
    category_applied_input_types: dict[str, list[InputType]]
    """What each category was judged by: `text`, sent or read in a picture, or the `image` itself.
    Empty for a category that was not judged."""
    headend: Headend


class Moderation(_Answer):
    """The whole answer."""

    id: str
    model: str
    results: list[Result]
