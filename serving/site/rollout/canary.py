"""The second Triton of a site, which has the new version of some models, and the judge beside it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from uuid import uuid4

from models.bundle import Bundle
from models.card import Tolerance
from models.errors import HeadendError
from models.files import write_atomic
from serving.fleet import Fleet
from serving.router import transition
from serving.router.transition import Canary
from serving.site import lifecycle, parts, ports
from serving.site.machine import State
from serving.site.rollout import drain, extra, front_door
from serving.site.rollout.history import Revision
from serving.site.rollout.judging import JudgeConfig, Triton
from serving.site.spec import PartSpec, SiteDirectory
from serving.site.waiting import Progress, living, wait_ready

PARTS = ("canary", "judge")
_PURPOSES = ("canary-http", "canary-grpc", "canary-metrics", "judge-http", "judge-grpc")


@dataclass(frozen=True)
class Trial:
    """A change of some models at one site."""

    directory: SiteDirectory
    before: Revision
    after: Revision
    models: tuple[str, ...]

    @cached_property
    def with_states(self) -> frozenset[str]:
        """Those of the models whose requests belong to sequences: a copy of one would be one too many."""
        found = lifecycle.fetch(
            self.before.fleet, {model: self.before.bundles[model] for model in self.models}
        )
        return frozenset(model for model, bundle in found.items() if bundle.card.serving.sequences)

    @property
    def fleet(self) -> Fleet:
        """The new declaration, with this site's changed models only."""
        site = self.after.fleet.sites[self.directory.site]
        only = site.model_copy(update={"models": list(self.models), "apps": []})
        return self.after.fleet.model_copy(
            update={"sites": {**self.after.fleet.sites, self.directory.site: only}}
        )


def start(trial: Trial, tell: Progress) -> str:
    """Start canary and judge, and have every new version answer its readiness; clients see nothing of it.

    Raises `HeadendError` with Triton's reason when a version cannot be loaded.
    """
    directory = trial.directory
    spec = directory.read_spec()
    if spec is None or not directory.supervised():
        raise HeadendError(f"Site {directory.site} does not run.", hint="Start it: headend up")
    new = lifecycle.fetch(trial.after.fleet, {model: trial.after.bundles[model] for model in trial.models})
    old = lifecycle.fetch(trial.before.fleet, {model: trial.before.bundles[model] for model in trial.models})
    chosen = ports.choose(_PURPOSES, spec.ports, set(spec.ports.values()))
    running = _triton(trial, new, chosen)
    main = Triton(http=spec.ports["triton-http"], grpc=spec.ports["triton-grpc"])
    extra.write(directory, [running, _judge(trial, main, chosen, _tolerances(trial, old, new))])
    asked = transition.read(directory.path)
    canary = Canary(
        http=chosen["canary-http"],
        grpc=chosen["canary-grpc"],
        judge_http=chosen["judge-http"],
        judge_grpc=chosen["judge-grpc"],
    )
    wanted = asked.model_copy(update={"canaries": dict.fromkeys(trial.models, canary)})
    tell(f"{directory.site}: starting canary of {', '.join(trial.models)}")
    _take_up(directory)
    wait_ready([directory], tell)
    _loaded(directory, trial.models, canary.http)
    front_door.ask(directory, trial.before, wanted)
    return f"{', '.join(trial.models)} loaded beside the old"


def give(trial: Trial, *, share: float, mirror: float, revision: Revision) -> None:
    """Set what the canaries answer and what is compared."""
    asked = transition.read(trial.directory.path)
    canaries = {
        model: canary.model_copy(
            update={"share": share, "mirror": 0.0 if model in trial.with_states else mirror}
        )
        for model, canary in asked.canaries.items()
    }
    front_door.ask(trial.directory, revision, asked.model_copy(update={"canaries": canaries}))


def end(directory: SiteDirectory, revision: Revision, limit_s: float) -> str:
    """Lead away from canary and judge, wait for what they work on, and end them. `revision`: the site's."""
    asked = transition.read(directory.path)
    said = "no canary ran"
    if asked.canaries:
        idle = {
            model: canary.model_copy(update={"share": 0.0, "mirror": 0.0})
            for model, canary in asked.canaries.items()
        }
        front_door.ask(directory, revision, asked.model_copy(update={"canaries": idle}))
        own = {port for canary in idle.values() for port in (canary.http, canary.grpc)}
        left = drain.wait_for_end(directory, own, limit_s)
        said = f"{left} requests or streams were still in flight" if left else "nothing was in flight"
        front_door.ask(directory, revision, asked.model_copy(update={"canaries": {}}))
    if extra.read(directory):
        extra.write(directory, [])
        if directory.supervised():
            _take_up(directory)
    return said


def crashed(directory: SiteDirectory) -> str:
    """How canary or judge went wrong since they were started; empty: they have not."""
    for part in living(directory).parts:
        if part.name in PARTS and (part.restarts or part.state in (State.FAILED, State.RESTARTING)):
            return f"{part.name} of site {directory.site} crashed: {part.error}"
    return ""


def canary_of(directory: SiteDirectory) -> Canary:
    """Ports of the site's canary. Raises `HeadendError` without one."""
    found = next(iter(transition.read(directory.path).canaries.values()), None)
    if found is None:
        raise HeadendError(f"Site {directory.site} has no canary.", hint="Go back: headend rollback")
    return found


def _take_up(directory: SiteDirectory) -> None:
    """Have the supervisor run the site's own parts and those of the roll-out, as they now are."""
    spec = directory.read_spec()
    if spec is None:
        return
    own = [part for part in spec.parts if part.name not in PARTS]
    changed = spec.model_copy(update={"parts": [*own, *extra.read(directory)], "revision": uuid4().hex})
    directory.write_spec(changed)
    lifecycle.reload(directory, changed)


def _triton(trial: Trial, bundles: Mapping[str, Bundle], chosen: Mapping[str, int]) -> PartSpec:
    from serving.triton.repository import write_repository

    directory = trial.directory
    repository = directory.path / "canary" / "models"
    write_repository(trial.fleet, directory.site, bundles, repository, flavour="embedded")
    part = parts.triton(trial.fleet, directory, repository, chosen, "canary")
    return part.model_copy(update={"fingerprint": uuid4().hex})


def _judge(
    trial: Trial, main: Triton, chosen: Mapping[str, int], tolerances: Mapping[str, Tolerance]
) -> PartSpec:
    config = JudgeConfig(
        http=chosen["judge-http"],
        grpc=chosen["judge-grpc"],
        old=main,
        new=Triton(http=chosen["canary-http"], grpc=chosen["canary-grpc"]),
        tolerances=dict(tolerances),
    )
    path = trial.directory.path / "canary" / "judge.json"
    write_atomic(path, config.model_dump_json(indent=1).encode(), mode=0o600)
    return PartSpec(
        name="judge",
        argv=[sys.executable, "-m", "serving.site.rollout.judge", str(path)],
        ports={"http": config.http, "grpc": config.grpc},
        ready=f"http://127.0.0.1:{config.http}/-/ready",
        fingerprint=uuid4().hex,
    )


def _tolerances(trial: Trial, old: Mapping[str, Bundle], new: Mapping[str, Bundle]) -> dict[str, Tolerance]:
    """Each version may be so far from its source, so the two may be as far apart as both together."""
    found = {}
    for model in trial.models:
        one = old[model].card.parity.tolerances[trial.before.fleet.models[model].precision]
        two = new[model].card.parity.tolerances[trial.after.fleet.models[model].precision]
        found[model] = Tolerance(
            absolute=one.absolute + two.absolute,
            relative=one.relative + two.relative,
            outliers=min(0.99, one.outliers + two.outliers),
        )
    return found


def _loaded(directory: SiteDirectory, models: tuple[str, ...], http: int) -> None:
    """Raise `HeadendError` with Triton's reason unless it serves every one of `models`."""
    from serving.triton.control import Control

    async def look() -> dict[str, str]:
        async with Control(http) as control:
            missing = [model for model in models if not await control.ready(model)]
            states = await control.states() if missing else {}
            return {model: states.get(model, "not there") for model in missing}

    deadline = time.monotonic() + 60
    while missing := asyncio.run(look()):
        if (
            not any("LOADING" in state.split()[0] for state in missing.values())
            or time.monotonic() > deadline
        ):
            raise HeadendError(
                "\n".join(
                    f"The new version of {model} cannot be loaded: {why}" for model, why in missing.items()
                ),
                hint=f"See: headend logs {directory.site} canary",
            )
        time.sleep(0.2)
