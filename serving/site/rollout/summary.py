"""A roll-out as `headend status` and the commands show it."""

from __future__ import annotations

import fcntl
from typing import Self

from models.home import home
from models.schema import Strict
from serving.fleet import Fleet
from serving.site.rollout import state
from serving.site.rollout.machine import Status
from serving.site.rollout.state import Finding, RolloutState
from serving.site.spec import SiteDirectory


class RolloutStatus(Strict):
    """The roll-out that is under way, or the last one."""

    status: Status
    alive: bool
    """Whether a command is at it; one that is under way without was cut off."""
    revision: int
    """What it rolls out; `before` is what was served."""
    before: int
    bundles: dict[str, str]
    """Digests that change, by model, as they are to be."""
    site: str
    step: str
    at: int
    """Number of the present step, from 1; the steps done when it has ended."""
    steps: int
    reason: str
    """Why it turned back."""
    held: dict[str, str]
    """Models whose current bundle was left out, since it had been rolled back, with the reason."""
    findings: tuple[Finding, ...]

    @classmethod
    def of(cls, found: RolloutState, *, alive: bool) -> Self:
        """The essentials of a roll-out's state."""
        now, step = found.position, found.position.step
        old = found.before.bundles
        return cls(
            status=now.status,
            alive=alive,
            revision=found.after.number,
            before=found.before.number,
            bundles={m: digest for m, digest in found.after.bundles.items() if old.get(m) != digest},
            site=step.site if step else "",
            step=str(step) if step else "",
            at=now.at + 1 if step or (now.status == "done" and now.steps) else 0,
            steps=len(now.steps),
            reason=now.reason,
            held=found.held,
            findings=found.findings,
        )


def rollout_of(fleet: str) -> RolloutStatus | None:
    """How the fleet's roll-out is, or how the last one went; None: there was none."""
    found = state.read(fleet)
    return RolloutStatus.of(found, alive=found.position.under_way and _held(fleet)) if found else None


def with_coming(fleet: Fleet) -> Fleet:
    """The fleet with the sites that a roll-out under way has started already."""
    begun = state.under_way(fleet.fleet)
    new = begun.after.fleet.sites if begun else {}
    coming = {name: site for name, site in new.items() if SiteDirectory(fleet.fleet, name).supervised()}
    return fleet.model_copy(update={"sites": {**coming, **fleet.sites}})


def _held(fleet: str) -> bool:
    """Whether a command is changing the fleet."""
    with (home() / "fleets" / fleet / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
