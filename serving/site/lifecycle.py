"""Brings sites up and down: derives their files, starts their supervisors, waits, and ends them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from models.errors import HeadendError
from models.files import locked
from models.home import home
from models.store import open_store
from serving.fleet import Fleet
from serving.site import derive, logs, process
from serving.site.machine import State
from serving.site.plan import FleetPlan, make_plan
from serving.site.spec import PartState, SiteDirectory, SiteSpec, SiteState
from serving.site.status import remember

if TYPE_CHECKING:
    from serving.triton.repository import Changes

Progress = Callable[[str], None]
"""Told, in a sentence, what happens."""

_LOOK_EVERY_S = 0.2
_SUPERVISOR_START_S = 60.0
_STUCK_S = 20.0
"""A front door is ready some probes after what it leads to."""
_CALM = {State.STARTING, State.READY, State.STOPPED}
_COMING = {State.STARTING, State.RESTARTING}


def up(
    fleet: Fleet,
    sites: Sequence[str],
    tell: Progress,
    started: list[SiteDirectory],
    *,
    parent: int | None = None,
) -> None:
    """Make `sites` what the fleet declares, without waiting for sites that are started.

    Sites that run already are changed one after the other, each ready again before the next, so that the
    others answer meanwhile. Sites whose supervisor is started here are appended to `started` at once, so that
    a caller who is interrupted can end them. `parent`: the supervisors end when this process does.

    Raises `HeadendError` when bundles are missing or addresses are taken; nothing is changed then.
    """
    with locked(home() / "fleets" / f"{fleet.fleet}.lock", busy=f"Fleet {fleet.fleet} is being changed."):
        plan = make_plan(fleet, sites)
        _check(plan)
        store = open_store(fleet.store)
        tell(f"verifying {len(plan.bundles)} bundles")
        bundles = {name: store.fetch(name, digest) for name, digest in plan.bundles.items()}
        remember(fleet)
        retired = [SiteDirectory(fleet.fleet, name) for name in plan.retire]
        ask_to_end(retired)
        wait_ended(retired, tell)
        for site in plan.sites:
            directory = SiteDirectory(fleet.fleet, site.site)
            directory.create()
            supervised = directory.supervised()
            if supervised and not site.changes:
                continue
            tell(f"{site.site}: deriving files")
            mine = {name: bundles[name] for name in fleet.models_at(site.site)}
            spec, changes = derive.derive(fleet, directory, mine, site.ports)
            directory.write_spec(spec)
            if supervised:
                _reload(directory, spec, [*site.start, *site.restart], tell)
                if "triton" in site.keep:
                    _swap_models(directory, changes, tell)
            else:
                started.append(directory)
                _start_supervisor(directory, parent)


def _check(plan: FleetPlan) -> None:
    if plan.build:
        raise HeadendError(
            f"No bundle yet of {', '.join(plan.build)}.",
            hint=f"Build: headend models build {' '.join(plan.build)}",
        )
    if conflicts := [conflict for site in plan.sites for conflict in site.conflicts]:
        raise HeadendError(
            "\n".join(conflicts), hint="End it, or write another address into the fleet file (-f fleet.yaml)."
        )


def _start_supervisor(directory: SiteDirectory, parent: int | None) -> None:
    arguments = [directory.fleet, directory.site, *([str(parent)] if parent else [])]
    with directory.log("supervisor").open("ab") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "serving.site.supervisor", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "HEADEND_HOME": str(home())},
        )
    deadline = time.monotonic() + _SUPERVISOR_START_S
    while not ((state := directory.read_state()) and state.supervisor == supervisor.pid):
        if supervisor.poll() is not None or time.monotonic() > deadline:
            raise HeadendError(
                f"The supervisor of site {directory.site} did not start.",
                hint="\n".join(logs.tail(directory.log("supervisor"), 10)),
            )
        time.sleep(0.05)


def _reload(directory: SiteDirectory, spec: SiteSpec, changed: Sequence[str], tell: Progress) -> None:
    """Have the supervisor act on `spec`, and wait until the parts that it starts are ready."""
    os.kill(_living(directory).supervisor, signal.SIGHUP)
    deadline = time.monotonic() + sum(part.grace_s for part in spec.parts) + _SUPERVISOR_START_S
    while _living(directory).revision != spec.revision:
        if time.monotonic() > deadline:
            raise HeadendError(
                f"The supervisor of site {directory.site} does not take up the change.",
                hint=f"See: headend logs {directory.site} supervisor",
            )
        time.sleep(_LOOK_EVERY_S)
    if changed:
        tell(f"{directory.site}: starting {', '.join(changed)}")
        wait_ready([directory], tell)


def _swap_models(directory: SiteDirectory, changes: Changes, tell: Progress) -> None:
    """Have a running Triton take up what changed in its repository; the old models answer meanwhile."""
    from serving.triton.control import Control

    if not (changes.written or changes.removed):
        return
    tell(f"{directory.site}: loading {', '.join(changes.written) or 'nothing'}")
    port = next(part for part in _living(directory).parts if part.name == "triton").ports["http"]

    async def apply() -> dict[str, HeadendError]:
        async with Control(port) as control:
            return await control.apply(changes)

    if failed := asyncio.run(apply()):
        raise HeadendError(
            "\n".join(str(error) for error in failed.values()), hint="What was served before is served on."
        )


def wait_ready(directories: Iterable[SiteDirectory], tell: Progress) -> None:
    """Wait until every part is ready.

    Raises `HeadendError` with a part's last log lines when it was given up or is not ready within its time.
    """
    waiting = list(directories)
    news = _News(tell)
    stuck_since: dict[str, float] = {}
    while waiting:
        for directory in list(waiting):
            state = _living(directory)
            news.of(state)
            if (part := _stuck(state)) is None:
                stuck_since.pop(directory.site, None)
            else:
                since = stuck_since.setdefault(directory.site, time.monotonic())
                if part.state is State.FAILED or time.monotonic() - since > _STUCK_S:
                    raise _not_ready(directory, part)
            if state.parts and state.state is State.READY:
                waiting.remove(directory)
        time.sleep(_LOOK_EVERY_S)


def watch(directories: Iterable[SiteDirectory], tell: Progress) -> None:
    """Tell what happens to sites until all of them have ended."""
    news = _News(tell)
    while states := [
        state for directory in directories if (state := directory.read_state()) and state.supervisor
    ]:
        for state in states:
            news.of(state)
        time.sleep(_LOOK_EVERY_S)


def _stuck(state: SiteState) -> PartState | None:
    """The part that keeps the site from becoming ready, unless it waits for one that is still coming."""
    found = {part.state: part for part in state.parts}
    if State.FAILED in found:
        return found[State.FAILED]
    return None if _COMING & found.keys() else found.get(State.UNREADY)


class _News:
    """Tells changes of parts."""

    def __init__(self, tell: Progress) -> None:
        self._tell = tell
        self._known: dict[tuple[str, str], State] = {}
        self._began = time.monotonic()

    def of(self, state: SiteState) -> None:
        for part in state.parts:
            key = (state.site, part.name)
            if self._known.get(key, State.STOPPED) is not part.state:
                self._known[key] = part.state
                why = f": {part.error}" if part.error and part.state not in _CALM else ""
                seconds = time.monotonic() - self._began
                self._tell(f"{seconds:6.1f} s  {state.site}: {part.name} is {part.state}{why}")


def _living(directory: SiteDirectory) -> SiteState:
    state = directory.read_state()
    if state is None or not state.supervisor:
        raise HeadendError(
            f"The supervisor of site {directory.site} ended.",
            hint="\n".join(logs.tail(directory.log("supervisor"), 10)),
        )
    return state


def _not_ready(directory: SiteDirectory, part: PartState) -> HeadendError:
    lines = "\n".join(f"  {line}" for line in logs.tail(directory.log(part.name), 15))
    return HeadendError(
        f"{part.name} of site {directory.site} is {part.state}: {part.error}",
        hint=f"Its log ends:\n{lines}\nAll of it: headend logs {directory.site} {part.name} -n 1000",
    )


def ask_to_end(directories: Iterable[SiteDirectory]) -> list[SiteDirectory]:
    """Ask the supervisors to end; asked a second time, they kill. Returns the sites that had one."""
    asked = []
    for directory in directories:
        state = directory.read_state()
        if state and state.supervisor:
            with suppress(ProcessLookupError):
                os.kill(state.supervisor, signal.SIGTERM)
                asked.append(directory)
    return asked


def wait_ended(directories: Iterable[SiteDirectory], tell: Progress) -> None:
    """Wait until the supervisors are gone, and make sure that nothing of theirs is left."""
    for directory in directories:
        was_up = directory.supervised()
        while directory.supervised():
            time.sleep(_LOOK_EVERY_S)
        if was_up | _clean(directory):
            tell(f"{directory.site}: stopped")


def _clean(directory: SiteDirectory) -> bool:
    """Remove what a killed supervisor left; whether a process was among it."""
    spec = directory.read_spec()
    if spec is None:
        return False
    with directory.hold():
        left = process.sweep(str(directory.path))
        for part in spec.parts:
            process.clean_shared_memory(part.shm_prefix)
    return bool(left)
