"""A roll-out as a pure state machine: a list of steps that can each be done again and undone.

Doing goes from the first step to the last. A failed step, or somebody who asks for it, turns the direction:
undoing starts with the step that was being done, for it may be half done, and ends with the first one. Where
the machine stands is written before every step: a command that is killed leaves a state from which the same
step is done (or undone) once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from models.schema import Strict

Kind = Literal[
    "start",
    "canary",
    "shadow",
    "share",
    "drain",
    "close",
    "change",
    "undrain",
    "open",
    "watch",
    "retire",
    "stop",
]
"""`drain`: other sites answer in its place; `close`: clients of its front door are sent elsewhere, too."""
Status = Literal["going", "undoing", "done", "undone"]


class Step(Strict):
    """One thing to do at one site."""

    kind: Kind
    site: str
    percent: int = 0
    """Of the site's share that the canary gets; of `share` only."""

    def __str__(self) -> str:
        return f"{self.kind} {self.percent}%" if self.kind == "share" else self.kind


class Position(Strict):
    """How far a roll-out has come."""

    steps: tuple[Step, ...]
    at: int = 0
    """Index of the step that is being done or undone."""
    status: Status = "going"
    reason: str = ""
    """Why it turned back."""

    @property
    def step(self) -> Step | None:
        """The step to do or undo now; None at an end."""
        return self.steps[self.at] if self.under_way else None

    @property
    def under_way(self) -> bool:
        """Whether something is left to do or undo."""
        return self.status in ("going", "undoing")


def begin(steps: Sequence[Step]) -> Position:
    """Before the first step; with none, at the end."""
    return Position(steps=tuple(steps), status="going" if steps else "done")


def passed(now: Position) -> Position:
    """The step is done (or undone)."""
    if now.status == "going":
        last = now.at == len(now.steps) - 1
        return now.model_copy(update={"status": "done"} if last else {"at": now.at + 1})
    if now.status == "undoing":
        return now.model_copy(update={"at": now.at - 1} if now.at else {"status": "undone"})
    return now


def turned(now: Position, reason: str) -> Position:
    """The step failed, or somebody wants to go back. What is being undone goes on; an end is an end."""
    return now.model_copy(update={"status": "undoing", "reason": reason}) if now.status == "going" else now


@dataclass(frozen=True)
class SiteChange:
    """What a roll-out means for one site."""

    site: str
    how: Literal["start", "change", "stop"]
    models: tuple[str, ...] = ()
    """Models that it serves already and will serve in another version."""
    restarts: tuple[str, ...] = ()
    """Parts that have to be started again."""
    with_states: tuple[str, ...] = ()
    """Those of the models that keep states of sequences, which end with the version that they began with."""
    withdraws: tuple[str, ...] = ()
    """Models and apps that it will not serve any more: others answer before it stops to."""


def steps_of(changes: Sequence[SiteChange], shares: Sequence[int]) -> list[Step]:
    """All steps, in order: new sites first, since they add room, then the changes, then sites that go.

    The first site with a canary takes every one of `shares` (percent, rising), the others the last one only.
    Without `shares` there are no canaries.
    """
    steps: list[Step] = []
    left = list(shares)
    for change in sorted(changes, key=lambda each: ("start", "change", "stop").index(each.how)):
        if change.how == "start":
            steps.append(Step(kind="start", site=change.site))
        elif change.how == "stop":
            steps += [Step(kind="close", site=change.site), Step(kind="stop", site=change.site)]
        else:
            canary = bool(change.models and left)
            steps += _changing(change, left if canary else ())
            left = left[-1:] if canary else left
    return steps


def _changing(change: SiteChange, shares: Sequence[int]) -> list[Step]:
    kinds: list[Kind] = ["change"]
    if "envoy" in change.restarts:
        kinds = ["close", "change", "open"]
    elif change.restarts or change.with_states or change.withdraws:
        kinds = ["drain", "change", "undrain"]
    middle = [Step(kind=kind, site=change.site) for kind in (*kinds, "watch")]
    if not shares:
        return middle
    before = [Step(kind=kind, site=change.site) for kind in ("canary", "shadow")]
    before += [Step(kind="share", site=change.site, percent=percent) for percent in shares]
    return [*before, *middle, Step(kind="retire", site=change.site)]
