"""What a roll-out or an operator asks of one front door: to lead away from its site, or to try a new version.

It lies in a file of its own in the site's directory, because it outlives what derives the configuration and
is read by all who do: the commands, and the agent at every plan.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from models.errors import HeadendError
from models.files import write_atomic
from models.schema import Strict

_FILE = "transition.json"
_Port = Annotated[int, Field(ge=1, le=65_535)]
_Share = Annotated[float, Field(ge=0, le=1)]


class Canary(Strict):
    """A second Triton of the site, which has the new version of a model."""

    http: _Port
    grpc: _Port
    judge_http: _Port
    """The judge is where copies of requests go; it asks both versions."""
    judge_grpc: _Port
    share: _Share = 0.0
    """Of the requests that this front door sends to its own site, those that the canary answers."""
    mirror: _Share = 0.0
    """Of this front door's requests for the model, those that are copied to the judge."""


class Transition(Strict):
    """What is not as the declaration alone would have it."""

    draining: bool = False
    """Other sites answer what they can, and other front doors are told to stay away."""
    closed: bool = False
    """`/readyz` says no, so that whoever stands before the front door sends clients elsewhere."""
    by_operator: bool = False
    """A person drained it: a roll-out leaves it so."""
    canaries: dict[str, Canary] = {}
    """By model."""

    @property
    def judge(self) -> Canary | None:
        """One of those that requests are copied for: all have the same judge."""
        return next((canary for canary in self.canaries.values() if canary.mirror), None)


def read(site: Path) -> Transition:
    """What is asked of the site whose directory is `site`; without a file, nothing.

    Raises `HeadendError` for a file that is not whole.
    """
    path = site / _FILE
    try:
        return Transition.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Transition()
    except ValidationError as error:
        raise HeadendError(
            f"{path} was not written by this version of headend.", hint="Remove it."
        ) from error


def write(site: Path, transition: Transition) -> None:
    """Replace it; what the front door does follows when its files are written anew."""
    write_atomic(site / _FILE, transition.model_dump_json(indent=1).encode(), mode=0o600)
