"""Goes through a roll-out's steps, forward or back, writing down where it stands before each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from models.errors import HeadendError, UsageError
from models.files import locked
from models.home import home
from serving.fleet import Fleet, Rollout
from serving.site.lifecycle import check
from serving.site.plan import make_plan
from serving.site.rollout import machine, planning, state
from serving.site.rollout.actions import Actions
from serving.site.rollout.history import History, Revision, wanted_bundles
from serving.site.rollout.state import RolloutState
from serving.site.spec import SiteDirectory
from serving.site.status import remember
from serving.site.waiting import Progress


@contextmanager
def alone(fleet: str) -> Iterator[None]:
    """Nobody else changes the fleet meanwhile. Raises `HeadendError` when somebody does."""
    with locked(home() / "fleets" / fleet / "lock", busy=f"Fleet {fleet} is being changed."):
        yield


def apply(
    fleet: Fleet,
    sites: Sequence[str],
    rules: Rollout,
    tell: Progress,
    *,
    canaries: bool,
    may_differ: bool,
    again: bool,
) -> RolloutState:
    """Roll out what `fleet` declares with the store's current bundles, or go on with what was begun.

    Args:
        fleet: the declaration.
        sites: those to change; by rights all that are on this machine.
        rules: how carefully, in place of what the declaration says.
        tell: told what happens.
        canaries: whether new versions are tried before they are promoted.
        may_differ: outputs of new versions need not be those of the old ones.
        again: bundles that were rolled back are tried once more.

    Returns how it ended; the caller looks at `position.status`. Raises `HeadendError` when it could neither
    go on nor back.
    """
    with alone(fleet.fleet):
        history = History(fleet.fleet)
        before = history.latest()
        if before is None:
            raise UsageError(f"Fleet {fleet.fleet} does not run.", hint="Start it: headend up --detach")
        begun = state.under_way(fleet.fleet)
        either = {
            flag: history.next(fleet, wanted_bundles(fleet, fleet.models, again=flag), "apply")
            for flag in (again, True)
        }
        if begun:
            return _go_on(begun, list(either.values()), tell)
        wanted = either[again]
        begin = _begin(before, wanted, sites, rules, canaries=canaries, may_differ=may_differ)
        # With nothing to do, what is known of the last roll-out stays.
        return run(begin, tell) if begin.position.steps else begin


def _begin(
    before: Revision,
    after: Revision,
    sites: Sequence[str],
    rules: Rollout,
    *,
    canaries: bool,
    may_differ: bool,
) -> RolloutState:
    plan = make_plan(after.fleet, sites, after.bundles)
    check(plan)
    shares = rules.steps if canaries else ()
    steps = machine.steps_of(planning.changes_of(before, after, plan), shares)
    current = wanted_bundles(after.fleet, after.fleet.models, again=True)
    history = History(after.fleet.fleet)
    return RolloutState(
        before=before,
        after=after,
        rules=rules,
        may_differ=may_differ,
        began=time.time(),
        position=machine.begin(steps),
        held={
            model: history.refused(model).get(digest, "")
            for model, digest in current.items()
            if after.bundles.get(model) != digest
        },
    )


def _go_on(begun: RolloutState, wanted: list[Revision], tell: Progress) -> RolloutState:
    if begun.position.status == "undoing":
        tell("going back was begun and not ended: going on with it")
    elif not any(each.same_as(begun.after) for each in wanted):
        raise HeadendError(
            "Another roll-out has begun and not ended, and the declaration or the store has changed since.",
            hint="Go back first: headend rollback. Or give it the declaration that it began with.",
        )
    return run(begun, tell)


def rollback(fleet: str, to: int | None, tell: Progress) -> RolloutState:
    """Undo the roll-out that is under way; without one, bring back revision `to`, by default the last other.

    Returns how it ended. Raises `UsageError` when there is nothing to go back to, `HeadendError` when going
    back failed.
    """
    with alone(fleet):
        if begun := state.under_way(fleet):
            if to is not None:
                raise UsageError(
                    "A roll-out is under way: it is undone first.", hint="headend rollback, without --to"
                )
            if begun.after.by == "rollback":
                return run(begun, tell)
            turned = machine.turned(begun.position, "headend rollback was asked for")
            return run(begun.model_copy(update={"position": turned}), tell)
        history = History(fleet)
        latest = history.latest()
        if latest is None:
            raise UsageError(f"Fleet {fleet} has no history.", hint="Start it: headend up --detach")
        target = history.read(to) if to is not None else history.before_latest()
        back = history.next(target.fleet, target.bundles, "rollback")
        # Those that were ever started here: others of the fleet may be elsewhere.
        here = [site for site in target.fleet.sites if SiteDirectory(fleet, site).read_spec()]
        begin = _begin(latest, back, here, target.fleet.rollout, canaries=False, may_differ=True)
        return run(begin.model_copy(update={"held": {}}), tell)


def run(now: RolloutState, tell: Progress) -> RolloutState:
    """Take steps until the end, forward or back. Raises `HeadendError` when a step back fails."""
    actions, total = Actions(now, tell), len(now.position.steps)
    while (step := now.position.step) is not None:
        with _told("The step is not begun, for it cannot be written down"):
            state.write(now)
        since, back = time.monotonic(), now.position.status == "undoing"
        tell(f"{step.site}: {'undoing ' if back else ''}{step} (step {now.position.at + 1} of {total})")
        try:
            with _told(f"{step} at {step.site} is not possible"):
                said = actions.undo(step) if back else actions.do(step)
        except HeadendError as error:
            if back:
                raise
            tell(f"{step.site}: {step} failed: {error}")
            now = state.found(now, error.message, since)
            now = now.model_copy(update={"position": machine.turned(now.position, str(error))})
        else:
            tell(f"{step.site}: {step}: {said}")
            now = state.found(now, said, since)
            now = now.model_copy(update={"position": machine.passed(now.position)})
    with _told("The end cannot be written down"):
        return _ended(now)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """What the operating system refuses (a full disk, as a rule) is told as any failure is."""
    try:
        yield
    except OSError as error:
        raise HeadendError(
            f"{what}: {error}",
            hint="When that is put right: headend apply goes on, headend rollback goes back.",
        ) from error


def _ended(now: RolloutState) -> RolloutState:
    """Write down what the fleet now is, then that the roll-out has ended."""
    history, good = History(now.after.fleet.fleet), now.position.status == "done"
    served, other = (now.after, now.before) if good else (now.before, now.after)
    remember(served.fleet)
    # As a rule there is nothing to record of a way back; a kill may have come right after the record.
    history.record(now.after if good else history.next(served.fleet, served.bundles, "rollback"))
    if not good or now.after.by == "rollback":
        history.refuse(other, served, now.position.reason or "headend rollback was asked for")
    else:
        history.accept(now.after)
    state.write(now)
    return now
