"""The supervisor of one site: `python -m serving.site.supervisor FLEET SITE`.

One per site, not one per fleet, because a site is what may fail: a supervisor that dies takes its own site
down and the front doors of the others carry on, as they would with sites on machines of their own.

It starts the parts of `spec.json` in order, without waiting for one before the next, watches them,
restarts what fails, writes `state.json`, and ends with nothing of its own left. SIGTERM or SIGINT: end the
parts, last one first (the front door closes before what it leads to); a second one: kill them. SIGHUP:
read the spec again; parts that changed are restarted, parts given up are tried again, the others are not
touched.

Not guaranteed: that parts survive their supervisor. They end with it (see `keeper`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time

from models.errors import HeadendError
from serving.site import keeper, logs, machine, process
from serving.site.machine import Action, Condition, Observation, Policy, State
from serving.site.probing import Probe, Prober, Silence
from serving.site.spec import PartSpec, PartState, SiteDirectory, SiteSpec, SiteState

_log = logging.getLogger("headend.supervisor")

_LOOK_EVERY_S = 1.0
_LOOK_EVERY_STARTING_S = 0.5
_CHORES_EVERY_S = 5.0


class _Part:
    """One part: its process, its condition, and the task that takes care of it."""

    def __init__(self, spec: PartSpec, supervisor: Supervisor) -> None:
        self.spec = spec
        self._supervisor = supervisor
        self._policy = Policy(spec.start_limit_s, spec.unready_limit_s)
        self._process: process.PartProcess | None = None
        self.condition = Condition()
        self._since = time.time()
        self._care: asyncio.Task[None] | None = None
        self._launch_error = ""
        self._silence = Silence()

    def begin(self) -> None:
        """Start it and take care of it from now on."""
        process.clean_shared_memory(self.spec.shm_prefix)  # a supervisor killed before may have left some
        self._enter(machine.start(self.condition, time.monotonic()))
        self._care = asyncio.create_task(self._take_care(), name=f"part {self.spec.name}")

    async def end(self) -> None:
        """End it for good."""
        if self._care is not None:
            self._care.cancel()
            await asyncio.wait([self._care])
        await self._end_process()
        self._enter(Condition(restarts=self.condition.restarts))

    def kill(self) -> None:
        """Hurry an end that is under way."""
        if self._process is not None:
            self._process.terminate()

    @property
    def keeper(self) -> int | None:
        """Pid of the keeper, while there is one."""
        return self._process.keeper if self._process else None

    def report(self) -> PartState:
        """The part for `state.json`."""
        return PartState(
            name=self.spec.name,
            state=self.condition.state,
            pid=self._process.pid if self._process else None,
            keeper=self.keeper,
            ports=self.spec.ports,
            restarts=self.condition.restarts,
            since=self._since,
            error=self.condition.error,
        )

    async def _take_care(self) -> None:
        self._launch()
        while self.condition.state is not State.FAILED:
            seen = await self._look()
            condition, action = machine.step(self.condition, self._policy, seen, time.monotonic())
            if action is Action.KILL and self._process is not None:
                self._process.kill()
            if action in (Action.END, Action.KILL) or (seen.exit is not None and action is None):
                await self._end_process()
            self._enter(condition)
            if action is Action.START:
                self._launch()
            await self._pause()

    def _launch(self) -> None:
        directory = self._supervisor.directory
        try:
            self._process = process.launch(self.spec, directory.log(self.spec.name), str(directory.path))
        except OSError as error:  # no memory, processes or disk left: as good as a start that failed
            self._launch_error = f"cannot start: {error}"

    async def _look(self) -> Observation:
        if self._process is None:
            return Observation(exit=self._launch_error)
        ready, alive = await self._ask()
        if not alive.is_silent:
            self._silence = Silence()
        # After the probe: what answered may have been another process on a port of one that has just ended.
        return Observation(
            exit=self._process.exit(),
            ready=ready.ok,
            alive=alive.ok,
            stands_still=alive.is_silent and self._silence.lasts(self._process.activity()),
            reason=ready.reason,
        )

    async def _ask(self) -> tuple[Probe, Probe]:
        """Whether it is ready, and whether it is alive: asked only when it was not ready already."""
        ask = self._supervisor.prober.ask
        if self.condition.state is State.READY or not self.spec.alive:
            return (ready := await ask(self.spec.ready)), ready
        ready, alive = await asyncio.gather(ask(self.spec.ready), ask(self.spec.alive))
        return ready, ready if ready.ok else alive

    async def _pause(self) -> None:
        pause = _LOOK_EVERY_S if self.condition.state is State.READY else _LOOK_EVERY_STARTING_S
        if self._process is not None:
            await self._process.wait(pause)
        else:
            await asyncio.sleep(pause)

    async def _end_process(self) -> None:
        if self._process is not None:
            await self._process.end()
            self._process = None
            self._supervisor.kill_strays()
            process.clean_shared_memory(self.spec.shm_prefix)

    def _enter(self, condition: Condition) -> None:
        if condition.state is not self.condition.state:
            self._since = time.time()
            level = logging.ERROR if condition.state is State.FAILED else logging.INFO
            _log.log(level, "%s: %s%s", self.spec.name, condition.state, _because(condition))
        self.condition = condition
        self._supervisor.publish()


def _because(condition: Condition) -> str:
    calm = (State.STARTING, State.READY, State.STOPPED)
    return f" ({condition.error})" if condition.error and condition.state not in calm else ""


class Supervisor:
    """Runs one site."""

    def __init__(self, directory: SiteDirectory) -> None:
        self.directory = directory
        self._spec = SiteSpec(fleet=directory.fleet, site=directory.site, front_door="", parts=[])
        self._parts: dict[str, _Part] = {}
        self._published: SiteState | None = None
        self.prober = Prober()
        self._asked = asyncio.Event()
        self._ending = False

    async def run(self) -> None:
        """Run the site until a signal asks for its end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end_asked)
        loop.add_signal_handler(signal.SIGHUP, self._asked.set)
        keeper.adopt_orphans()
        process.sweep(str(self.directory.path))
        self._asked.set()
        chores = asyncio.create_task(self._chores(), name="chores")
        try:
            while not self._ending:
                await self._asked.wait()
                self._asked.clear()
                if not self._ending:
                    await self._apply()
        finally:
            await self._end_parts(list(self._parts))
            chores.cancel()
            await self.prober.close()
            self._published = None
            self.publish(supervisor=0)
            _log.info("site %s stopped", self.directory.site)

    def kill_strays(self) -> None:
        """Kill what the keeper of an ended part left because it was killed itself."""
        process.kill_strays({part.keeper for part in self._parts.values() if part.keeper})

    def publish(self, supervisor: int | None = None) -> None:
        """Write the state when it differs from what was written last."""
        state = SiteState(
            fleet=self._spec.fleet,
            site=self._spec.site,
            front_door=self._spec.front_door,
            supervisor=os.getpid() if supervisor is None else supervisor,
            revision=self._spec.revision,
            parts=[part.report() for part in self._parts.values()],
        )
        if state == self._published:
            return
        try:
            self.directory.write_state(state)
        except OSError as error:  # a full disk must not end what serves; the chores try again
            _log.error("cannot write the state: %s", error)
        else:
            self._published = state

    def _end_asked(self) -> None:
        if self._ending:
            for part in self._parts.values():
                part.kill()
        self._ending = True
        self._asked.set()

    async def _apply(self) -> None:
        """Make the parts what the spec says."""
        try:
            spec = self.directory.read_spec() or self._spec
        except HeadendError as error:
            _log.error("the spec is not read, what runs stays as it is: %s", error)
            return
        wanted = {part.name: part for part in spec.parts}
        changed = [
            name
            for name, part in self._parts.items()
            if name not in wanted
            or part.spec.fingerprint != wanted[name].fingerprint
            or part.condition.state is State.FAILED
        ]
        await self._end_parts(changed)
        kept = {name: part for name, part in self._parts.items() if name not in changed}
        self._parts = {name: kept.get(name) or _Part(part, self) for name, part in wanted.items()}
        for name, part in self._parts.items():
            if name in kept:
                part.spec = wanted[name]
            else:
                part.begin()
        self._spec = spec
        self.publish()

    async def _end_parts(self, names: list[str]) -> None:
        for name in reversed(names):
            await self._parts[name].end()

    async def _chores(self) -> None:
        while True:
            await asyncio.sleep(_CHORES_EVERY_S)
            logs.bound(self.directory.logs)
            self.publish()


def main(arguments: list[str]) -> int:
    """`FLEET SITE [PARENT_PID]`; with a parent, the site ends when that process does."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if len(arguments) > 2:
        keeper.die_with_parent(int(arguments[2]), signal.SIGTERM)
    directory = SiteDirectory(*arguments[:2])
    try:
        with directory.hold():
            asyncio.run(_run(directory))
    except HeadendError as error:
        _log.error("%s", error)
        return error.exit_code
    return 0


async def _run(directory: SiteDirectory) -> None:
    await Supervisor(directory).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
