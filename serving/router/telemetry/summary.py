"""What one site says of itself, twice a second: small, versioned, and bounded in every direction.

A summary comes from another machine, so nothing in it is trusted: unknown keys, numbers that are not finite,
negative or absurd, and lists that are too long are refused as a whole (`pydantic.ValidationError`). Rates are
per second over the last few seconds; nothing here is a counter.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints

from models.card import Name
from models.schema import Strict
from serving.fleet import Class

MOST_BYTES = 256 << 10
"""Of one summary as JSON."""
MOST_POOLS = 256
MOST_SITES = 2048
MOST_LINKS = 64
"""In a larger fleet a site tells of its nearest ones: a thousand sites with a thousand links each would take
an agent hundreds of megabytes."""
MOST_BATCH_SIZES = 64

Number = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Boot = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
"""Random for each start of a site's agent."""
Sequence = Annotated[int, Field(ge=0, le=1 << 53)]
"""Counts the summaries since the boot: an older one never replaces a newer one."""
Rows = Annotated[int, Field(ge=1, le=65_536)]
PoolKey = Annotated[str, StringConstraints(pattern=r"^(model|app)\.[a-z0-9][a-z0-9-]{0,62}$")]
"""`<kind>.<name>`."""


_NOTHING: set[str] = set()


class Wire(Strict):
    """Base of all that agents send each other."""

    # Strict in pydantic's sense as well: "1" is not 1, and true is not 1.0.
    model_config = ConfigDict(strict=True)

    def model_post_init(self, context: object) -> None:
        """Forget which fields were named: a set for each of 20,000 pools would weigh as much as they do."""
        object.__setattr__(self, "__pydantic_fields_set__", _NOTHING)


class BatchTime(Wire):
    """Executions of one batch size."""

    executions: Number
    """Per second."""
    mean_ms: Number
    """Time of one execution of so many rows."""
    cv2: Number | None = None
    """Squared coefficient of variation of that time; None: too few executions to tell."""


class PoolSummary(Wire):
    """One pool as one site sees it. `request` means one that clients send, whatever rows it holds."""

    kind: Literal["model", "app"]
    ready: bool
    """Whether this site's own parts answer it now."""
    version: Annotated[str, StringConstraints(max_length=128)] = ""
    """A model's bundle digest; of an app, headend's version."""
    offered: dict[Class, Number] = {}
    """Requests/s that clients bring to this site's front door; what other sites pass on is not counted."""
    answered: Number = 0.0
    """Requests/s that this site's own parts answer well, for all front doors."""
    errors: Number = 0.0
    """Requests/s that they fail or refuse."""
    in_flight: Number = 0.0
    """Requests that they have, waiting ones included; mean over the window."""
    peak: Number = 0.0
    """Most that they had at any look within it."""
    queue_ms: Number | None = None
    """Mean wait before a request is worked on; None: nothing was answered lately."""
    service_ms: Number | None = None
    """Mean time for which a request is worked on (all rows of its batch together)."""
    service_cv2: Number | None = None
    """Squared coefficient of variation of that time."""
    by_batch: Annotated[dict[Rows, BatchTime], Field(max_length=MOST_BATCH_SIZES)] = {}
    """By rows of one execution; models only."""
    instances: Count = 1
    """Executions that run at the same time."""
    max_batch: Count = 1
    """Most rows of one execution."""
    room: Count = 1
    """Requests that the site takes at a time, waiting ones included."""
    capacity: Number | None = None
    """Requests/s that this site can answer: from its capacity record, refined by what is measured; None:
    neither is known."""
    request_bytes: Number = 0.0
    response_bytes: Number = 0.0
    """Mean bodies; 0: nothing was seen yet."""


class Link(Wire):
    """The way from one site to another, as the first has measured it."""

    rtt_ms: Number
    """Round trip without the time of transfer."""
    mbit_s: Number | None = None
    """Bandwidth, Mbit/s; None: too fast to be measured by small messages, or not measured yet."""


class SiteSummary(Wire):
    """All that a site says of itself."""

    format: Literal[1] = 1
    fleet: Name
    site: Name
    boot: Boot
    sequence: Sequence
    pools: Annotated[dict[PoolKey, PoolSummary], Field(max_length=MOST_POOLS)] = {}
    links: Annotated[dict[Name, Link], Field(max_length=MOST_LINKS)] = {}
