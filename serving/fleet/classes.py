"""What a request may wait, who says so, and what a class may take of a site that is full."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import ConfigDict, Field

from models.schema import Strict

Class = Literal["live", "interactive", "batch"]
CLASSES: tuple[Class, ...] = get_args(Class)
"""The most urgent first."""
DEFAULT_CLASS: Class = "interactive"
"""That of a request that says nothing, to a pool of which the fleet file says nothing."""
CLASS_HEADER = "x-headend-class"
"""Where a request may say it."""
DEADLINE_HEADER = "x-headend-deadline-ms"
"""Where a request may say for how many milliseconds from now an answer is worth something. gRPC clients say
it by their timeout. A length of time and no moment, because clocks differ."""

PATIENCE: dict[Class, float] = {"live": 0.1, "interactive": 1, "batch": 10}
"""How long a class may wait, as a multiple of the card's `queue_timeout_ms`: a late subtitle of a live
programme is worth nothing, a batch job has all night."""
PRIORITY: dict[Class, int] = {"live": 1, "interactive": 2, "batch": 3}
"""Triton's `priority` request parameter for each class; 1 is served first."""
_KEPT_SHARE, _KEPT_PLACES = 0.25, 4
"""Of a queue, what only live requests may fill. A quarter of a short queue is a place or two, which live
requests, coming at random, would soon find taken: so at least four places, or half of a queue below eight."""
RETRY_AFTER_S: dict[Class, int] = {"live": 1, "interactive": 1, "batch": 5}
"""When a refused client may ask again, seconds: what can wait stays away longer."""
ATTEMPTS: dict[Class, int] = {"live": 4, "interactive": 3, "batch": 2}
"""Sites that are asked for one request at most, so that a full fleet is not asked again and again."""


def waiting(class_: Class, queue: float) -> float:
    """How many may wait in a queue of so many places when one more request of this class joins it.

    A model answers in the order of arrival, so whatever waits, waits before a live request that comes next:
    an urgent class may find a longer queue than a patient one may leave. Batch waits with its client.
    """
    if class_ == "live":
        return queue
    interactive = min(queue * (1 - _KEPT_SHARE), max(queue / 2, queue - _KEPT_PLACES))
    return interactive if class_ == "interactive" else interactive / 3


class Classed(Strict):
    """A model or app whose requests have a class."""

    class_: Class = Field(default=DEFAULT_CLASS, alias="class")
    """`live`, `interactive` or `batch`: the class of requests that name none by `x-headend-class`."""

    def at_servers(self) -> dict[str, Any]:
        """All but what only front doors and plans read, a change of which restarts and reloads nothing."""
        return self.model_dump(mode="json", exclude={"class_", "balancing"})

    # The key is a word that Python keeps to itself; what is written again is read again.
    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True, validate_by_alias=True)
