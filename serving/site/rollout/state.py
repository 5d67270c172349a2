"""A fleet's roll-out as it is written down before every step: `$HEADEND_HOME/fleets/<fleet>/rollout.json`.

The file stays after the end, so that one can see how the last roll-out went.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from models.errors import HeadendError
from models.files import write_atomic
from models.home import home
from models.schema import Strict
from serving.fleet import Rollout
from serving.site.rollout.history import Revision
from serving.site.rollout.machine import Position, Step


class Finding(Strict):
    """How one step went."""

    step: Step
    undone: bool
    seconds: float
    said: str
    """In words and figures."""


class RolloutState(Strict):
    """All there is to know to go on, or back, after a kill."""

    format: Literal[1] = 1
    before: Revision
    after: Revision
    rules: Rollout
    may_differ: bool
    """Outputs of the new versions are not compared with the old ones'."""
    began: float
    """Seconds since the epoch."""
    position: Position
    findings: tuple[Finding, ...] = ()
    held: dict[str, str] = {}
    """Models whose newer bundle was left out, with the reason it was rolled back for."""


def path(fleet: str) -> Path:
    """Where it lies."""
    return home() / "fleets" / fleet / "rollout.json"


def read(fleet: str) -> RolloutState | None:
    """The roll-out that is under way, or how the last one ended; None: there was none."""
    try:
        return RolloutState.model_validate_json(path(fleet).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise HeadendError(
            f"{path(fleet)} was not written by this version of headend.",
            hint="Look at `headend status`; then remove the file.",
        ) from error


def under_way(fleet: str) -> RolloutState | None:
    """The roll-out that has begun and not ended."""
    found = read(fleet)
    return found if found and found.position.under_way else None


def write(state: RolloutState) -> None:
    """Replace it."""
    write_atomic(path(state.after.fleet.fleet), state.model_dump_json(indent=1).encode(), mode=0o600)


def found(state: RolloutState, said: str, since: float) -> RolloutState:
    """With how the present step went; `since`: when it began, of the monotonic clock."""
    if (step := state.position.step) is None:
        return state
    finding = Finding(
        step=step,
        undone=state.position.status == "undoing",
        seconds=round(time.monotonic() - since, 1),
        said=said,
    )
    return state.model_copy(update={"findings": (*state.findings, finding)})


def refuse_while_rolling_out(fleet: str) -> None:
    """Raise `HeadendError` when a roll-out has begun and not ended."""
    if under_way(fleet):
        raise HeadendError(
            f"A roll-out of fleet {fleet} has begun and not ended (see `headend status`).",
            hint="Go on: headend apply. Go back: headend rollback.",
        )
