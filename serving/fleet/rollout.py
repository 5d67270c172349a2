"""How carefully a change of the fleet is rolled out: the part `rollout` of the fleet file."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from models.schema import Strict

Percent = Annotated[int, Field(ge=1, le=100)]


class Rollout(Strict):
    """What `headend apply` does between the old and the new, and what makes it turn back."""

    steps: tuple[Percent, ...] = (5, 25, 50)
    """Percent of a site's own load that the canary answers, step by step; later sites take the last one only,
    since the first has been judged."""
    mirror: Percent = 20
    """Percent of a changed model's requests that are also asked of both versions and compared: each costs
    the site two inferences more."""
    samples: int = Field(default=30, ge=6, le=100_000)
    """Compared requests before the shadow is judged, and the canary's answers before a step is."""
    patience_s: float = Field(default=30, gt=0, le=86_400)
    """Seconds a step waits for that many; then it is judged by what there is, recorded inputs included."""
    drain_s: float = Field(default=30, gt=0, le=86_400)
    """Seconds that requests and streams in flight may take to end before what answers them is changed."""
    watch_s: float = Field(default=5, ge=0, le=86_400)
    """Seconds a changed site is watched before the next one is touched."""
    errors: float = Field(default=0.01, ge=0, lt=1)
    """How much larger the share of failed requests may be than the old version's."""
    slower: float = Field(default=1.5, gt=1)
    """How many times the old version's time the new one may take, at the median of compared requests: it is
    turned back when it surely takes longer."""
    different: float = Field(default=0.0, ge=0, lt=1)
    """Share of compared requests whose outputs may be beyond the tolerances of the card."""

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if list(self.steps) != sorted(set(self.steps)):
            raise ValueError(f"steps must rise: {', '.join(map(str, sorted(set(self.steps))))}")
        return self
