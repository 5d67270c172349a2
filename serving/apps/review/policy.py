"""A review policy: what a broadcaster lets pass, has looked at, or blocks. A YAML file a person writes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from models.card import Name
from models.schema import Declaration, Strict
from serving.apps.review.terms import Matcher

Action = Literal["review", "block"]
Decision = Literal["pass", "review", "block"]
Category = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9/-]{0,62}$")]
Term = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Probability = Annotated[float, Field(ge=0, le=1)]

SCORED: frozenset[str] = frozenset({"sexual"})
"""Categories that a classifier scores (open-nsfw, pictures only); others are judged by term lists alone."""


class Threshold(Strict):
    """From which score on a picture is looked at by a person, or blocked."""

    review: Probability | None = None
    """Reviewed from this score on; absent: never for the score alone."""
    block: Probability | None = None
    """Blocked from this score on; absent: never for the score alone."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.review is None and self.block is None:
            raise ValueError("give `review`, `block` or both")
        if self.review is not None and self.block is not None and self.review > self.block:
            raise ValueError(f"`review` ({self.review}) may not be above `block` ({self.block})")
        return self

    def action(self, score: float) -> Action | None:
        """What `score` calls for."""
        if self.block is not None and score >= self.block:
            return "block"
        return "review" if self.review is not None and score >= self.review else None


class TermList(Strict):
    """Terms with one meaning and one consequence, looked for in text and in pictures."""

    category: Category
    """One of OpenAI's (`illicit`) or the broadcaster's own (`gambling-advertising`)."""
    action: Action
    """What a match calls for. A match with characters inserted is looked at by a person at most:
    punctuation joins unrelated words too (`打赌，场面` has `赌场`)."""
    gap: int = Field(default=2, ge=0, le=16)
    """How many spaces or signs may be inserted between two characters of a term."""
    terms: list[Term] = Field(min_length=1)
    """However written: case, width, accents, Traditional or Simplified make no difference."""


class Policy(Declaration):
    """The policy file."""

    policy: Name
    """The policy's name, in every answer."""
    version: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    """Its author's version, in every answer together with the file's digest."""
    description: str = ""
    """For people."""
    thresholds: dict[Category, Threshold] = {}
    """By category, for what classifiers score."""
    text_confidence: Probability = 0.6
    """Text read in a picture counts when the recogniser was at least this sure of it."""
    terms: dict[Name, TermList] = {}
    """Term lists by name."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if unknown := set(self.thresholds) - SCORED:
            raise ValueError(
                f"no classifier scores {', '.join(sorted(unknown))}; thresholds can be given for "
                f"{', '.join(sorted(SCORED))}, and term lists for every category"
            )
        self.matcher()
        return self

    def matcher(self) -> Matcher:
        """A matcher of all its terms. Raises `ValueError` for a term that cannot be looked for."""
        return Matcher({name: (entry.terms, entry.gap) for name, entry in self.terms.items()})
