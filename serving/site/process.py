"""One part's process: started under a keeper, watched, and ended by its handle with all that it started."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from serving.site import keeper
from serving.site.probing import Activity
from serving.site.spec import PartSpec

MARK = "HEADEND_PART"
"""Environment variable that every process of a part carries: `<site directory>:<part>`."""

_KEEPER = (sys.executable, "-I", "-S", keeper.__file__)
_KEEPER_MARGIN_S = 5.0
"""How much longer than the part's grace its keeper may take before it is killed itself."""


class PartProcess:
    """A started part. Make one with `launch`, from the supervisor's main thread and inside its event loop."""

    def __init__(self, spec: PartSpec, process: subprocess.Popen[bytes], pid_pipe: int) -> None:
        self.spec = spec
        self._process = process
        self._pid_pipe = pid_pipe
        self._pid: int | None = None
        self._pidfd = os.pidfd_open(process.pid)
        self._gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    @property
    def keeper(self) -> int:
        """The keeper's pid; all of the part's processes descend from it."""
        return self._process.pid

    @property
    def pid(self) -> int | None:
        """The part's own pid; None for the first milliseconds."""
        if self._pid is None and not self._gone.is_set():
            with suppress(BlockingIOError, ValueError):
                self._pid = int(os.read(self._pid_pipe, 32))
        return self._pid

    def exit(self) -> str | None:
        """How it ended, in words; None while it lives."""
        if not self._gone.is_set():
            return None
        status = self._process.wait()
        if status < 0:
            return f"its keeper was killed by {signal.Signals(-status).name}"
        if status > 128 and status - 128 in set(signal.Signals):
            return f"killed by {signal.Signals(status - 128).name}"
        return f"exit status {status}"

    async def wait(self, seconds: float) -> None:
        """Return when the part is gone, or after `seconds`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._gone.wait(), seconds)

    async def end(self) -> None:
        """SIGTERM, the part's grace, SIGKILL; returns when nothing of the part is left."""
        self.terminate()
        await self.wait(self.spec.grace_s + _KEEPER_MARGIN_S)
        if not self._gone.is_set():
            self._process.kill()
            await self._gone.wait()
        self.exit()

    def kill(self) -> None:
        """SIGKILL to all of it; its keeper ends by itself then."""
        for pid in keeper.descendants(self.keeper):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end; asked a second time, it is killed."""
        self._process.terminate()

    def activity(self) -> Activity:
        """What the part's processes do."""
        return Activity.of(keeper.descendants(self.keeper))

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        os.close(self._pid_pipe)
        self._gone.set()


def launch(spec: PartSpec, log: Path, mark: str) -> PartProcess:
    """Start a part in a session of its own, writing to `log`."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*_KEEPER, str(os.getpid()), str(spec.grace_s), str(write_end), *spec.argv],
                env={**os.environ, **spec.env, MARK: f"{mark}:{spec.name}"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(write_end,),
                start_new_session=True,
            )
    finally:
        os.close(write_end)
    return PartProcess(spec, process, read_end)


def kill_strays(known: set[int]) -> None:
    """Kill this process's children that are not `known`, with their descendants."""
    for child in psutil.Process().children():
        if child.pid in known:
            continue
        for pid in (*keeper.descendants(child.pid), child.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(child.pid, os.WNOHANG)


def sweep(mark: str) -> list[int]:
    """Kill every process of this user that carries `mark`; returns their pids.

    For the one case that keepers and supervisor cannot see: all of them were killed at once.
    """
    killed = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK, "").rpartition(":")[0] == mark:
                process.kill()
                killed.append(process.pid)
    return killed


def clean_shared_memory(prefix: str) -> None:
    """Remove what a killed part left in /dev/shm."""
    if prefix:
        for path in Path("/dev/shm").glob(f"{prefix}*"):  # noqa: S108
            path.unlink(missing_ok=True)


def memory(root: int) -> int:
    """Bytes held by a process and its descendants: proportional set size, or resident if unreadable."""
    return sum(own_memory(pid) for pid in (root, *keeper.descendants(root)))


def own_memory(pid: int) -> int:
    """Bytes held by one process, counted as in `memory`; 0 when it is gone."""
    with suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        with suppress(psutil.AccessDenied):
            return int(process.memory_full_info().pss)
        return int(process.memory_info().rss)
    return 0
