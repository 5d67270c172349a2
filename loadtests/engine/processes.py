"""Starts the generator's processes, hears them, and sees when one dies.

They end with this process, however it ends, and are out of reach of the terminal's Ctrl-C, which is for this
process to answer.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from loadtests.campaign import Campaign
from loadtests.engine import messages
from loadtests.engine.messages import Job
from models.errors import HeadendError
from serving.site import keeper

_START_LIMIT_S = 120.0
_END_GRACE_S = 5.0


@dataclass
class _Process:
    handle: subprocess.Popen[bytes]
    job: Job
    finished: bool = False
    """It has said all that it had to say."""

    def say(self, line: str) -> None:
        if self.handle.stdin is not None:
            with suppress(BrokenPipeError):
                self.handle.stdin.write(line.encode())
                self.handle.stdin.flush()


class Generator:
    """The processes that send one campaign's load; a context manager that leaves none behind."""

    def __init__(self, campaign: Campaign, doors: Mapping[str, str], *, workers: int, web: bool, log: Path):
        self._declaration = campaign.model_dump(mode="json", by_alias=True)
        self._doors, self._workers, self._web, self._log = dict(doors), workers, web, log
        self._heard: queue.Queue[tuple[_Process, dict[str, Any] | None]] = queue.Queue()
        self._processes: list[_Process] = []
        self._deadline = time.monotonic() + _START_LIMIT_S
        self.dead: list[str] = []
        """Processes that died, in words."""

    def __enter__(self) -> Self:
        self._start(Job("master" if self._workers > 1 else "alone", **self._common))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        deadline = time.monotonic() + (_END_GRACE_S if kind is None else 0)
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.handle.wait(max(0.0, deadline - time.monotonic()))
        for process in self._processes:
            process.handle.kill()
            process.handle.communicate()  # closes its input, too

    @property
    def _common(self) -> dict[str, Any]:
        return {
            "declaration": self._declaration,
            "doors": self._doors,
            "workers": self._workers,
            "web": self._web,
        }

    def _start(self, job: Job) -> None:
        me = os.getpid()
        read, write = os.pipe()
        with self._log.open("ab") as log:
            handle = subprocess.Popen(
                [sys.executable, "-m", "gevent.monkey", "--module", "loadtests.engine.generator", str(write)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[write],
                start_new_session=True,
                preexec_fn=lambda: keeper.die_with_parent(me, signal.SIGKILL),
            )
        os.close(write)
        process = _Process(handle, job)
        self._processes.append(process)
        threading.Thread(target=self._hear, args=(process, read), daemon=True).start()
        process.say(messages.encode(job))

    def _hear(self, process: _Process, pipe: int) -> None:
        with os.fdopen(pipe, encoding="utf-8") as lines:
            for line in lines:
                self._heard.put((process, messages.decode(line)))
        self._heard.put((process, None))

    def stop(self) -> None:
        """Ask it to send no more and to say what it has counted."""
        self._processes[0].say(f"{messages.STOP}\n")

    def give_up(self) -> None:
        """Take for dead whoever has not reported."""
        for process in self._processes:
            process.handle.kill()

    def next(self, timeout: float) -> dict[str, Any] | None:
        """The next message; None when nothing was said for `timeout` seconds.

        Raises `HeadendError` when the generator says that it cannot go on, or does not start.
        """
        try:
            process, message = self._heard.get(timeout=timeout)
        except queue.Empty:
            if time.monotonic() > self._deadline:
                raise self._failed("did not start") from None
            return None
        if message is None:
            self._ended(process)
        elif message["kind"] == "listening":
            for number in range(self._workers):
                job = Job("worker", **self._common, worker=number, master_port=message["port"])
                self._start(job)
        elif message["kind"] == "started":
            self._deadline = float("inf")
        elif message["kind"] == "failed":
            error = HeadendError(message["message"], hint=message["hint"])
            error.exit_code = message["code"]
            raise error
        elif message["kind"] == "done":
            self._finished(message["worker"])
        return message

    @property
    def over(self) -> bool:
        """Whether every worker has said all, or is dead, and nothing is left to hear."""
        working = [each for each in self._processes if each.job.role != "master" and not each.finished]
        started = len(self._processes) > 1 or self._workers == 1 or self._processes[0].finished
        return started and not working and self._heard.empty()

    def _finished(self, worker: int) -> None:
        for process in self._processes:
            if process.job.worker == worker and process.job.role != "master":
                process.finished = True

    def _ended(self, process: _Process) -> None:
        if process.finished:
            return
        code = process.handle.wait()
        if process.job.role == "worker" and code == 0:
            return  # its last words come through the master, whose pipe may be read later than this
        process.finished = True
        if process.job.role == "master":
            # Without it no worker can say what it has counted.
            if any(not each.finished for each in self._processes):
                self.dead.append(f"the generator's master {_died(code)}")
                for each in self._processes:
                    each.finished = True
            return
        self.dead.append(f"worker {process.job.worker} {_died(code)}")
        self._processes[0].say(f"{messages.LOST} {process.job.worker}\n")

    def _failed(self, what: str) -> HeadendError:
        lines = self._log.read_text("utf-8", "replace").splitlines()[-10:]
        return HeadendError(f"The load generator {what}.", hint="\n".join(lines))


def _died(code: int) -> str:
    how = f"was killed by signal {-code}" if code < 0 else f"ended by itself with status {code}"
    return f"{how} before it had reported (what it said: generator.log)"
