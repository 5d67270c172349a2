"""Brings sites up, changes them, and brings them down."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from models.bundle import Bundle
from models.errors import HeadendError
from models.files import locked
from models.home import home
from models.store import open_store
from serving.fleet import Fleet
from serving.site import derive, door, exposure, logs, process
from serving.site.plan import FleetPlan, SitePlan, make_plan
from serving.site.rollout.history import History
from serving.site.rollout.state import refuse_while_rolling_out
from serving.site.spec import SiteDirectory, SiteSpec
from serving.site.status import remember
from serving.site.waiting import Progress, living, wait_ready

if TYPE_CHECKING:
    from serving.triton.repository import Changes

_LOOK_EVERY_S = 0.2
_SUPERVISOR_START_S = 60.0


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
    with locked(home() / "fleets" / fleet.fleet / "lock", busy=f"Fleet {fleet.fleet} is being changed."):
        refuse_while_rolling_out(fleet.fleet)
        plan = make_plan(fleet, sites)
        check(plan)
        tell("verifying bundles")
        bundles = fetch(fleet, plan.bundles)
        remember(fleet)
        _record(fleet, plan.bundles)
        retired = [SiteDirectory(fleet.fleet, name) for name in plan.retire]
        ask_to_end(retired)
        wait_ended(retired, tell)
        for site in plan.sites:
            if site.changes or not SiteDirectory(fleet.fleet, site.site).supervised():
                bring(fleet, site, bundles, tell, started, parent=parent)


def fetch(fleet: Fleet, digests: Mapping[str, str]) -> dict[str, Bundle]:
    """Verified bundles by model."""
    store = open_store(fleet.store)
    return {name: store.fetch(name, digest) for name, digest in digests.items()}


def _record(fleet: Fleet, bundles: Mapping[str, str]) -> None:
    """Make this what the fleet is; sites that are left as they are keep their bundles."""
    history = History(fleet.fleet)
    latest = history.latest()
    known = latest.bundles if latest else {}
    history.record(history.next(fleet, {**known, **bundles}, "up"))


def bring(
    fleet: Fleet,
    site: SitePlan,
    bundles: Mapping[str, Bundle],
    tell: Progress,
    started: list[SiteDirectory],
    *,
    parent: int | None = None,
) -> None:
    """Make one site what the fleet declares, also when an earlier attempt was cut off in the middle.

    A supervisor that has to be started is appended to `started`; its parts are not waited for.
    """
    directory = SiteDirectory(fleet.fleet, site.site)
    directory.create()
    supervised = directory.supervised()
    tell(f"{site.site}: deriving files")
    mine = {name: bundles[name] for name in fleet.models_at(site.site)}
    spec, changes = derive.derive(fleet, directory, mine, site.ports, in_use=supervised)
    if supervised:
        _change(directory, site, spec, changes, tell)
        # The agent's start took longer than Envoy takes to read: no route leads to what is left over now.
        door.write(door.view_of(fleet, directory, mine, site.ports), directory)
    else:
        directory.write_spec(spec)
        started.append(directory)
        _start_supervisor(directory, parent)


def check(plan: FleetPlan) -> None:
    """Raise `HeadendError` when bundles are missing or addresses are taken."""
    if plan.build:
        raise HeadendError(
            f"No bundle yet of {', '.join(plan.build)}.",
            hint=f"Build: headend models build {' '.join(plan.build)}",
        )
    if open_doors := [each for site in plan.sites for each in site.exposed]:
        raise HeadendError("\n".join(open_doors), hint=exposure.HINT)
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
    try:
        while not ((state := directory.read_state()) and state.supervisor == supervisor.pid):
            if supervisor.poll() is not None or time.monotonic() > deadline:
                raise HeadendError(
                    f"The supervisor of site {directory.site} did not start.",
                    hint="\n".join(logs.tail(directory.log("supervisor"), 10)),
                )
            time.sleep(0.05)
    except BaseException:  # an interrupt, too: nobody else knows of it yet
        supervisor.terminate()
        raise


def _change(
    directory: SiteDirectory, plan: SitePlan, spec: SiteSpec, changes: Changes, tell: Progress
) -> None:
    """Bring a running site to `spec`. The repository counts as derived once Triton serves from it."""
    differs = derive.REPOSITORY in plan.write or changes.written or changes.removed
    swap = bool(differs) and "triton" in plan.keep
    pending = {kind: value for kind, value in spec.derived.items() if kind != derive.REPOSITORY}
    directory.write_spec(spec.model_copy(update={"derived": pending}) if swap else spec)
    reload(directory, spec)
    if swap:  # before the front door is waited for, which is not ready while one of its pools has no server
        wait_ready([directory], tell, ["triton"])
        tell(f"{directory.site}: loading {', '.join(changes.written) or 'what is not loaded'}")
        _swap_models(directory, changes)
        directory.write_spec(spec)
    if started := [*plan.start, *plan.restart]:
        tell(f"{directory.site}: starting {', '.join(started)}")
        wait_ready([directory], tell, started)


def reload(directory: SiteDirectory, spec: SiteSpec) -> None:
    """Have the supervisor act on `spec`."""
    os.kill(living(directory).supervisor, signal.SIGHUP)
    deadline = time.monotonic() + sum(part.grace_s for part in spec.parts) + _SUPERVISOR_START_S
    while living(directory).revision != spec.revision:
        if time.monotonic() > deadline:
            raise HeadendError(
                f"The supervisor of site {directory.site} does not take up the change.",
                hint=f"See: headend logs {directory.site} supervisor",
            )
        time.sleep(_LOOK_EVERY_S)


def _swap_models(directory: SiteDirectory, changes: Changes) -> None:
    """Have a running Triton take up what changed in its repository; the old models answer meanwhile.

    An earlier change may have been written and not loaded: when nothing is new, everything is loaded, which
    costs nothing for what is loaded already.
    """
    from serving.triton.control import Control

    if not changes.written:
        changes = replace(changes, written=changes.unchanged)
    port = next(part for part in living(directory).parts if part.name == "triton").ports["http"]

    async def apply() -> dict[str, HeadendError]:
        async with Control(port) as control:
            return await control.apply(changes)

    if failed := asyncio.run(apply()):
        raise HeadendError(
            "\n".join(str(error) for error in failed.values()), hint="What was served before is served on."
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
