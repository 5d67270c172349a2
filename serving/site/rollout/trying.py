"""The two steps that try a new version: in the shadow, where nobody gets its answers, and with a share."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from models.errors import HeadendError
from serving.fleet import Rollout
from serving.site import lifecycle
from serving.site.machine import State
from serving.site.rollout import canary, judging, recorded, seen
from serving.site.rollout.canary import Trial
from serving.site.rollout.judging import Compared, Served, Spans
from serving.site.spec import SiteDirectory
from serving.site.waiting import Progress, living

_T = TypeVar("_T")
_LOOK_EVERY_S = 0.3
_NEWS_S = 5.0


class RefusedError(HeadendError):
    """The new version is not as good as the old one."""


def shadow(trial: Trial, rules: Rollout, tell: Progress, *, may_differ: bool) -> str:
    """Compare both versions on recorded inputs, then on copies of requests; says with figures how it went.

    Raises `RefusedError` as soon as the rules say so.
    """
    at = canary.canary_of(trial.directory)

    def look() -> dict[str, Compared]:
        return _compared(trial, rules, may_differ)

    for model in trial.models:
        known = [
            *lifecycle.fetch(trial.before.fleet, {model: trial.before.bundles[model]}).values(),
            *lifecycle.fetch(trial.after.fleet, {model: trial.after.bundles[model]}).values(),
        ]
        asked = recorded.replay(known[-1].card, recorded.cases(known), at.judge_grpc, rules.samples)
        tell(f"{trial.directory.site}: {model}: {asked} recorded inputs asked of both versions")
        look()
    canary.give(trial, share=0.0, mirror=rules.mirror / 100, revision=trial.before)
    copied = set(trial.models) - trial.with_states
    found = _watch(look, lambda now: all(now[model].mirrored >= rules.samples for model in copied), rules)
    return "; ".join(_shadow_figures(model, each) for model, each in found.items())


def share(trial: Trial, rules: Rollout, percent: int, *, may_differ: bool) -> str:
    """Have the canary answer `percent` of the site's own load; says with figures how it went.

    Raises `RefusedError` as soon as the rules say so.
    """
    directory = trial.directory
    spec = directory.read_spec()
    if spec is None:
        raise HeadendError(f"Site {directory.site} does not run.", hint="Go back: headend rollback")
    admin, at = spec.ports["envoy-admin"], canary.canary_of(directory)
    ports = {"new": (at.http, at.grpc), "old": (spec.ports["triton-http"], spec.ports["triton-grpc"])}
    then = {(model, side): seen.served(admin, model, ports[side]) for model in trial.models for side in ports}
    canary.give(trial, share=percent / 100, mirror=rules.mirror / 100, revision=trial.before)

    spans = {model: Spans() for model in trial.models}

    def look() -> dict[tuple[str, str], Served]:
        _compared(trial, rules, may_differ)
        now = {key: seen.served(admin, key[0], ports[key[1]]).since(then[key]) for key in then}
        for model in trial.models:
            new, old = now[model, "new"], now[model, "old"]
            spans[model].add(new, old)
            if why := judging.against_served(model, new, old, spans[model].ratios, rules):
                raise RefusedError(why)
        return now

    found = _watch(
        look,
        lambda now: all(
            now[model, "new"].requests >= rules.samples and len(spans[model].ratios) >= judging.FEWEST
            for model in trial.models
        ),
        rules,
    )
    return "; ".join(
        f"{model}: new: {_served(found[model, 'new'])}, old: {_served(found[model, 'old'])}"
        for model in trial.models
    )


def watch(directory: SiteDirectory, rules: Rollout) -> str:
    """Look after a changed site; says how much it answered. Raises `RefusedError` when it does worse."""
    spec = directory.read_spec()
    if spec is None:
        raise HeadendError(f"Site {directory.site} does not run.", hint="Go back: headend rollback")
    admin, begun = spec.ports["envoy-admin"], time.monotonic()
    own = {port for part in spec.parts if part.name in ("triton", "serve") for port in part.ports.values()}
    before = seen.answered(admin, own)
    restarts = {part.name: part.restarts for part in living(directory).parts}
    usual = before.errors / before.requests if before.requests else 0.0
    while True:
        for part in living(directory).parts:
            if part.restarts > restarts.get(part.name, 0) or part.state is State.FAILED:
                raise RefusedError(f"{part.name} of site {directory.site} crashed: {part.error}")
        now = seen.answered(admin, own)
        requests, errors = now.requests - before.requests, now.errors - before.errors
        if errors >= judging.SURE and judging.at_least(errors, requests) > usual + rules.errors:
            raise RefusedError(
                f"site {directory.site} failed {errors} of {requests} requests since the change"
            )
        if time.monotonic() - begun >= rules.watch_s:
            return f"{requests} answers with {errors} errors"
        time.sleep(_LOOK_EVERY_S)


def _compared(trial: Trial, rules: Rollout, may_differ: bool) -> dict[str, Compared]:
    """What the judge has found. Raises `RefusedError` for what is bad, and when canary or judge crashed."""
    if why := canary.crashed(trial.directory):
        raise RefusedError(why)
    found = seen.compared(canary.canary_of(trial.directory).judge_http)
    for model in trial.models:
        if why := judging.against_compared(model, found[model], rules, may_differ=may_differ):
            raise RefusedError(why)
    return found


def _watch(look: Callable[[], _T], enough: Callable[[_T], bool], rules: Rollout) -> _T:
    """Look until there is enough to judge by, or the rules' patience ends."""
    deadline = time.monotonic() + rules.patience_s
    while True:
        now = look()
        if enough(now) or time.monotonic() >= deadline:
            return now
        time.sleep(_LOOK_EVERY_S)


def explain(directory: SiteDirectory, error: HeadendError) -> None:
    """Raise `RefusedError` if what could not be asked has crashed; the supervisor knows in a moment."""
    deadline = time.monotonic() + _NEWS_S
    while time.monotonic() < deadline:
        if why := canary.crashed(directory):
            raise RefusedError(why) from error
        time.sleep(_LOOK_EVERY_S)


def _shadow_figures(model: str, found: Compared) -> str:
    times = f", {found.ratio:.2f} times the time" if found.ratio else ""
    dropped = f", {found.dropped} more not asked" if found.dropped else ""
    return (
        f"{model}: {found.recorded} recorded and {found.mirrored} copied requests compared, "
        f"{found.different} different{times}{dropped}"
    )


def _served(found: Served) -> str:
    time_ = f" in {found.mean_ms:.1f} ms" if found.mean_ms else ""
    return f"{found.requests} answers{time_} with {found.errors} errors"
