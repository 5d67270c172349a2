"""What one process used while it worked: processor time to the nanosecond, and instructions.

Time depends on the clock and on who shares the caches; instructions hardly do, so they tell small differences
from noise. They come from `perf stat` (https://man7.org/linux/man-pages/man1/perf-stat.1.html), which a
machine may lack or forbid: then there are none.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

_EVENT = "instructions:u"


@dataclass(frozen=True)
class Usage:
    """Of one process, all its threads together."""

    cpu_s: float
    """Processor time, seconds."""
    instructions: float | None
    """In user mode; None where they cannot be counted."""


class Meter:
    """Measures the process `pid` from each `start` to its `stop`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._counted: _Counted | None = None
        self._begin = 0.0

    def start(self) -> None:
        """Begin."""
        self._counted = _Counted(self._pid) if shutil.which("perf") else None
        self._begin = _cpu_s(self._pid)

    def stop(self) -> Usage:
        """What was used since `start`."""
        used = _cpu_s(self._pid) - self._begin
        counted, self._counted = self._counted, None
        return Usage(used, counted.read() if counted else None)


def _cpu_s(pid: int) -> float:
    """Processor time of all threads that live, seconds: `/proc/PID/task/TID/schedstat` counts nanoseconds."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError):
            total += int(path.read_text("ascii").split()[0])
    return total / 1e9


class _Counted:
    """`perf stat` of a process, which has begun to count when this has been made."""

    def __init__(self, pid: int) -> None:
        with ExitStack() as stack:
            told, tell = os.pipe()
            heard, hear = os.pipe()
            for end in (told, hear):
                stack.callback(os.close, end)
            self._out = tempfile.NamedTemporaryFile("r")  # noqa: SIM115  # closed in `read`
            self._tell, self._heard = tell, heard
            self._perf = subprocess.Popen(
                [
                    *("perf", "stat", "-x", ",", "-e", _EVENT, "-D", "-1", "-o", self._out.name),
                    *("-p", str(pid), "--control", f"fd:{told},{hear}"),
                ],
                pass_fds=(told, hear),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        os.write(self._tell, b"enable\n")
        # "ack", or nothing when perf has ended because it may not.
        os.read(self._heard, 16)

    def read(self) -> float | None:
        """Instructions; ends it."""
        with suppress(BrokenPipeError):
            os.write(self._tell, b"disable\n")
            os.read(self._heard, 16)
        self._perf.send_signal(signal.SIGINT)
        self._perf.wait(10)
        for end in (self._tell, self._heard):
            os.close(end)
        with self._out as out:
            fields = [line.split(",") for line in out.read().splitlines() if _EVENT in line]
        value = fields[0][0] if fields else ""
        return float(value) if value.replace(".", "").isdigit() else None
