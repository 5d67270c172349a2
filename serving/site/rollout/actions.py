"""What each step of a roll-out does at a site, and how it is undone; both may be cut off and done again."""

from __future__ import annotations

from collections.abc import Callable

from models.errors import HeadendError
from serving.router import transition
from serving.router.transition import Transition
from serving.site import lifecycle
from serving.site.plan import make_plan
from serving.site.rollout import canary, drain, front_door, trying
from serving.site.rollout.canary import Trial
from serving.site.rollout.history import Revision
from serving.site.rollout.machine import Kind, Step
from serving.site.rollout.planning import changed_models
from serving.site.rollout.state import RolloutState
from serving.site.spec import SiteDirectory
from serving.site.waiting import Progress, wait_ready


class Actions:
    """The steps of one roll-out, on this machine's sites."""

    def __init__(self, state: RolloutState, tell: Progress) -> None:
        self._before, self._after = state.before, state.after
        self._rules, self._may_differ, self._tell = state.rules, state.may_differ, tell
        self._done: dict[Kind, Callable[[Step], str]] = {
            "start": self._start,
            "canary": lambda step: canary.start(self._trial(step), tell),
            "shadow": lambda step: trying.shadow(
                self._trial(step), self._rules, tell, may_differ=self._may_differ
            ),
            "share": lambda step: trying.share(
                self._trial(step), self._rules, step.percent, may_differ=self._may_differ
            ),
            "drain": lambda step: self._drain(step, self._before),
            "close": lambda step: self._close(step, self._before),
            "change": self._change,
            "undrain": lambda step: self._undrain(step, self._after),
            "open": lambda step: self._undrain(step, self._after),
            "watch": lambda step: trying.watch(self._directory(step), self._rules),
            "retire": lambda step: self._end_canary(step, self._after),
            "stop": self._stop,
        }
        self._undone: dict[Kind, Callable[[Step], str]] = {
            "start": self._take_away,
            "canary": lambda step: self._end_canary(step, self._before),
            "share": self._take_back,
            "drain": lambda step: self._undrain(step, self._before),
            "close": lambda step: self._undrain(step, self._before),
            "change": lambda step: self._bring(step, self._before),
            "undrain": lambda step: self._drain(step, self._after),
            "open": lambda step: self._close(step, self._after),
            "stop": lambda step: self._bring(step, self._before),
        }
        """What is not here leaves nothing behind."""

    def do(self, step: Step) -> str:
        """Do the step; says how it went. Raises `HeadendError` when it failed."""
        try:
            return self._done[step.kind](step)
        except trying.RefusedError:
            raise
        except HeadendError as error:
            if step.kind in ("shadow", "share"):
                trying.explain(self._directory(step), error)
            raise

    def undo(self, step: Step) -> str:
        """Make it as it was before the step, whether that was done, half done or not begun."""
        act = self._undone.get(step.kind)
        return act(step) if act else "nothing to undo"

    def _trial(self, step: Step) -> Trial:
        models = changed_models(self._before, self._after, step.site)
        return Trial(self._directory(step), self._before, self._after, tuple(models))

    def _directory(self, step: Step) -> SiteDirectory:
        return SiteDirectory(self._after.fleet.fleet, step.site)

    def _start(self, step: Step) -> str:
        return self._bring(step, self._after)

    def _stop(self, step: Step) -> str:
        directory = self._directory(step)
        lifecycle.ask_to_end([directory])
        lifecycle.wait_ended([directory], self._tell)
        transition.write(directory.path, Transition())
        return "stopped"

    def _take_away(self, step: Step) -> str:
        """Undo a start: some may have come to the new site already."""
        return f"{self._close(step, self._after)}; {self._stop(step)}"

    def _drain(self, step: Step, revision: Revision) -> str:
        directory = self._directory(step)
        if not directory.supervised():
            return "it does not run"
        return drain.drain(directory, revision, self._rules.drain_s, self._tell)

    def _close(self, step: Step, revision: Revision) -> str:
        directory = self._directory(step)
        if not directory.supervised():
            return "it does not run"
        return drain.close(directory, revision, self._rules.drain_s, self._tell)

    def _undrain(self, step: Step, revision: Revision) -> str:
        if transition.read(self._directory(step).path).by_operator:
            return "it stays drained, as an operator wants it"
        drain.undrain(self._directory(step), revision)
        return "it answers again"

    def _change(self, step: Step) -> str:
        directory = self._directory(step)
        asked = transition.read(directory.path)
        if asked.canaries:  # the judge would compare the new version with itself
            share = max(each.share for each in asked.canaries.values())
            canary.give(self._trial(step), share=share, mirror=0.0, revision=self._before)
        return self._bring(step, self._after)

    def _bring(self, step: Step, revision: Revision) -> str:
        fleet, directory = revision.fleet, self._directory(step)
        plan = make_plan(fleet, [step.site], revision.bundles)
        if not plan.sites[0].conflicts:
            bundles = lifecycle.fetch(fleet, plan.bundles)
            with front_door.taken(directory):
                lifecycle.bring(fleet, plan.sites[0], bundles, self._tell, [])
            wait_ready([directory], self._tell)
            return f"it runs revision {revision.number}"
        raise HeadendError("\n".join(plan.sites[0].conflicts), hint="Free the address, then go on or back.")

    def _take_back(self, step: Step) -> str:
        directory = self._directory(step)
        if not transition.read(directory.path).canaries:
            return "no canary ran"
        canary.give(self._trial(step), share=0.0, mirror=0.0, revision=self._before)
        return "the old version answers everything"

    def _end_canary(self, step: Step, revision: Revision) -> str:
        return canary.end(self._directory(step), revision, self._rules.drain_s)
