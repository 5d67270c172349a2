"""How the fleet's load is shared: where a pool's requests may go, and what the ways between sites cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from models.schema import Strict
from serving.fleet.classes import Class

Placement = Literal["local-only", "prefer-local", "anywhere"]
Tag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.=-]{0,62}$")]
"""What is true of a site, as `eu`, `gpu` or `room=b2`."""
Headroom = Annotated[float, Field(gt=0, le=1)]
HEADROOM: dict[Class, float] = {"live": 0.95, "interactive": 0.9, "batch": 0.85}


class Balancing(Strict):
    """How one pool's requests are shared among its sites."""

    placement: Placement = "anywhere"
    """`anywhere`: wherever it is answered soonest. `prefer-local`: elsewhere only what the site at hand
    cannot take. `local-only`: never elsewhere, not even as a last resort."""
    residency: list[Tag] = []
    """Tags that a site must carry, all of them, to get this pool's requests: for data that may not leave a
    country, or a building. By default any site may."""
    headroom: dict[Class, Headroom] = dict(HEADROOM)
    """Share of a site's capacity that a class may fill, together with the classes above it. Below 1, because
    queues grow without bound as load nears capacity; less for batch, so that a burst of live finds room."""

    def bound(self, class_: Class) -> float:
        """Share of capacity that `class_` may fill; a class that is not named gets the default's."""
        return self.headroom.get(class_, HEADROOM[class_])


class Uplink(Strict):
    """A site's way to all others."""

    mbit_s: Annotated[float, Field(gt=0)]
    """What it carries, in each direction, Mbit/s; the plan fills at most 70% of it, because a full line
    queues."""
    cost_per_gb: Annotated[float, Field(ge=0)] = 0
    """What a gigabyte over it costs, either way, in any one currency; see `Economy.second_of_waiting`."""


class Economy(Strict):
    """What the plan weighs against time."""

    second_of_waiting: Annotated[float, Field(gt=0)] = 0.001
    """What one second less for one request is worth, in the currency of `cost_per_gb`. By default a request
    of a megabyte goes over a line of 1 per gigabyte when that saves it more than a second."""


def may_answer(balancing: Balancing, door: str, tags: Mapping[str, Collection[str]]) -> list[str]:
    """The sites out of `tags` (each with what is true of it) that placement and residency let `door` ask."""
    return [
        site
        for site, known in tags.items()
        if set(balancing.residency) <= set(known) and (balancing.placement != "local-only" or site == door)
    ]
