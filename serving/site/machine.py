"""When a part is started, restarted or given up: a pure state machine, driven by the supervisor's
observations.

Times are seconds of one monotonic clock, passed in. Nothing here touches a process.

A failed part is started again after a pause that doubles with every failure in the window. It is given up,
loudly, when it failed `attempts` times in a row without ever becoming ready (it is broken), or `failures`
times within `window_s` (it keeps breaking). A part that lives but does not answer as alive past its limit
is ended and counts as failed: a server that hangs is as gone for its clients as one that crashed. One that
stands still, with nothing to compute and nothing to wait for, will not answer any more and is killed at once:
its connections break, and what it had in hand is asked of others. One that answers as alive but not as ready
is left running: what it lacks (a model, a peer) a restart does not bring.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class State(StrEnum):
    """What a part is doing."""

    STARTING = "starting"
    """Its process lives and has not been ready yet."""
    READY = "ready"
    UNREADY = "unready"
    """It lives, but is not ready any more, or not within its time."""
    RESTARTING = "restarting"
    """It failed; the next start comes after a pause."""
    FAILED = "failed"
    """Given up until a person runs `headend up` again."""
    STOPPED = "stopped"


class Action(StrEnum):
    """What the supervisor has to do now."""

    START = "start"
    END = "end"
    KILL = "kill"


@dataclass(frozen=True)
class Policy:
    """How patient to be with one part."""

    start_limit_s: float = 240.0
    """From start to ready; generous, because a slow start on a busy machine must be slow and not fatal."""
    unready_limit_s: float = 60.0
    """Unready for this long, a living part is restarted."""
    pause_s: float = 0.5
    """Before the first restart; doubled with every further failure in the window."""
    pause_max_s: float = 30.0
    attempts: int = 4
    """Failures in a row, never ready between them, after which the part is given up."""
    failures: int = 10
    """Failures within `window_s` after which the part is given up."""
    window_s: float = 600.0


@dataclass(frozen=True)
class Condition:
    """All that is remembered about a part."""

    state: State = State.STOPPED
    since: float = 0.0
    """When this state began."""
    failed_at: tuple[float, ...] = ()
    """Times of the failures in the window, oldest first."""
    unready_starts: int = 0
    """Failures in a row without having been ready."""
    retry_at: float = 0.0
    restarts: int = 0
    error: str = ""
    """Why it last failed or is unready; stays to be read after a recovery."""


@dataclass(frozen=True)
class Observation:
    """What the supervisor sees of a part's process."""

    exit: str | None = None
    """How it ended (`exit status 1`); None while it lives."""
    ready: bool = False
    alive: bool = True
    """False: the process lives, but does not answer its liveness probe."""
    stands_still: bool = False
    """It answers nothing, although no thread of its processes has, or waits for, a processor or a disk: so it
    is not late."""
    reason: str = ""
    """What the probe said when it is not ready."""


def start(condition: Condition, now: float) -> Condition:
    """A person asks for the part: starts it from `stopped` or `failed` with a clean slate."""
    return Condition(State.STARTING, since=now, restarts=condition.restarts)


def step(
    condition: Condition, policy: Policy, seen: Observation, now: float
) -> tuple[Condition, Action | None]:
    """The next condition, and what to do to get there."""
    match condition.state:
        case State.STOPPED | State.FAILED:
            return condition, None
        case State.RESTARTING:
            if now < condition.retry_at:
                return condition, None
            started = replace(condition, state=State.STARTING, since=now, restarts=condition.restarts + 1)
            return started, Action.START
    if seen.exit is not None:
        return _failed(condition, policy, seen.exit, now), None
    if seen.ready:
        if condition.state is State.READY:
            return condition, None
        return replace(condition, state=State.READY, since=now, unready_starts=0), None
    return _not_ready(condition, policy, seen, now)


def _not_ready(
    condition: Condition, policy: Policy, seen: Observation, now: float
) -> tuple[Condition, Action | None]:
    if condition.state is State.READY:
        return replace(condition, state=State.UNREADY, since=now, error=seen.reason), None
    limit = policy.start_limit_s if condition.state is State.STARTING else policy.unready_limit_s
    if now - condition.since < limit:
        if seen.stands_still and condition.state is State.UNREADY:
            return _failed(condition, policy, "it answers nothing and does nothing", now), Action.KILL
        return condition, None
    reason = f"not ready within {limit:g} s: {seen.reason or 'no answer'}"
    if not seen.alive:
        return _failed(condition, policy, reason, now), Action.END
    if condition.state is State.STARTING:
        return replace(condition, state=State.UNREADY, since=now, error=reason), None
    return condition, None


def _failed(condition: Condition, policy: Policy, reason: str, now: float) -> Condition:
    failed_at = (*(t for t in condition.failed_at if now - t < policy.window_s), now)
    unready_starts = condition.unready_starts + 1 if condition.state is State.STARTING else 0
    failed = replace(
        condition,
        state=State.RESTARTING,
        since=now,
        failed_at=failed_at,
        unready_starts=unready_starts,
        error=reason,
        retry_at=now + min(policy.pause_max_s, policy.pause_s * 2.0 ** (len(failed_at) - 1)),
    )
    if unready_starts >= policy.attempts:
        return replace(failed, state=State.FAILED, error=f"{reason} ({unready_starts} starts, never ready)")
    if len(failed_at) >= policy.failures:
        return replace(
            failed,
            state=State.FAILED,
            error=f"{reason} ({len(failed_at)} failures within {policy.window_s:g} s)",
        )
    return failed
