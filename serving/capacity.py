"""`<site>.yaml` of a load test: what one site holds of each pool, and by which measurement that is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, StringConstraints, model_validator

from models.card import Name, Sha256
from models.errors import DeclarationError
from models.files import locked, write_atomic
from models.schema import Declaration, Strict

PerSecond = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
_HEAD = "# What this site holds, as `headend loadtest capacity` has measured it.\n"


class Objective(Strict):
    """Something that had to hold."""

    name: str
    """`live p99`, `error rate` …"""
    limit: float
    unit: Literal["ms", "share", "count"]


class Measurement(Strict):
    """How a capacity was found: what it is true of."""

    at: str
    """ISO 8601, UTC."""
    headend: str
    """headend's version."""
    hardware: str | None = None
    """None: the site was elsewhere, and did not say."""
    bundles: dict[Name, Sha256] = {}
    """Digests of the models involved, where they are known."""
    campaign: str
    """Its name."""
    campaign_digest: Sha256
    """sha256 of its canonical JSON."""
    step_s: PerSecond
    """How long each load was offered, in seconds."""
    steps: Annotated[int, Field(ge=1)]
    """How many loads were tried."""
    ended: str
    """Why no more: `width` when the interval was as narrow as asked."""
    objectives: list[Objective] = Field(min_length=1)


class Capacity(Strict):
    """The knee: the most load, requests a second, at which the objectives hold."""

    per_second: PerSecond | None = None
    """Where the knee most likely lies; None where only one side of it is known."""
    at_least: PerSecond | None = None
    below: PerSecond | None = None
    """The knee's interval; None: nothing held, or nothing missed."""
    confidence: Annotated[float, Field(gt=0, lt=1)]
    """That the knee lies in the interval."""
    concurrency: NotNegative | None = None
    p50_ms: NotNegative | None = None
    p99_ms: NotNegative | None = None
    """Mean requests in flight and response times, in the step next to the knee that held; None: none did."""
    measured: Measurement

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        known = [value for value in (self.at_least, self.per_second, self.below) if value is not None]
        if not known:
            raise ValueError("neither `at_least` nor `below` is known: that is no capacity")
        if known != sorted(known):
            raise ValueError("`per_second` must lie between `at_least` and `below`")
        return self


class WorkCapacity(Capacity):
    """What a pool takes of one kind of request alone."""

    client: str
    input: str
    batch: Annotated[int, Field(ge=1)] = 1
    """Rows in one request."""


class MixCapacity(Capacity):
    """What a site takes of several kinds of requests at once."""

    shares: dict[str, Annotated[float, Field(ge=0, le=1)]]
    """Each work's share of the requests."""


class CapacityRecord(Declaration):
    """All that is known of one site's capacity."""

    format: Literal[1] = 1
    site: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    pools: dict[Name, dict[str, WorkCapacity]] = {}
    """By pool (a model's or an app's name) and by what was asked of it."""
    mixes: dict[str, MixCapacity] = {}
    """By campaign."""

    def merged(self, newer: CapacityRecord) -> CapacityRecord:
        """This record, with what `newer` says in the place of what it says of the same.

        Raises `DeclarationError` when they are of different sites.
        """
        if self.site != newer.site:
            raise DeclarationError(f"a record of site `{self.site}` cannot take up site `{newer.site}`'s")
        pools = {
            pool: self.pools.get(pool, {}) | newer.pools.get(pool, {})
            for pool in dict.fromkeys([*self.pools, *newer.pools])
        }
        return self.model_copy(update={"pools": pools, "mixes": self.mixes | newer.mixes})

    def merge_into(self, path: Path, *, replace: bool = True) -> CapacityRecord:
        """Take this record up into the file at `path`, which is made if need be; returns what is there now.

        Without `replace`, what the file says of the same stays. Writers at the same time wait for each other.
        Raises `DeclarationError` when `path` is something else.
        """
        with locked(path.with_name(f".{path.name}.lock")):
            known = CapacityRecord.load(path) if path.exists() else self
            merged = known.merged(self) if replace else self.merged(known)
            declaration = merged.model_dump(mode="json", exclude_none=True)
            text = yaml.safe_dump(declaration, sort_keys=False, allow_unicode=True)
            write_atomic(path, (_HEAD + text).encode())
        return merged
