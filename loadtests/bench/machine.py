"""What the machine was doing while a figure was taken, and whether the figure may be published.

Two cores are easily shared with something else. A benchmark watches the processor time of processes that
are not part of it, the time stolen by the hypervisor (`steal` of `/proc/stat`), and the kernel's pressure
stall information (`/proc/pressure/cpu`, https://docs.kernel.org/accounting/psi.html). A benchmark that
fills the machine raises the last by itself, so it is recorded but not judged.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import psutil

MAX_FOREIGN = 0.10
"""Largest share of the machine's processor time that others may have used."""
MAX_STEAL = 0.05
"""Largest share that the hypervisor may have stolen."""


@dataclass(frozen=True)
class Conditions:
    """The machine during one measurement. Shares are of all cores' time, 0 to 1."""

    cpu: str
    cores: int
    seconds: float
    foreign: float
    """Processor time of processes outside the benchmark."""
    steal: float
    pressure: float
    """Share of the time in which some runnable task waited for a core."""

    @property
    def quiet(self) -> bool:
        """Whether the figures may be published."""
        return self.foreign <= MAX_FOREIGN and self.steal <= MAX_STEAL

    def __str__(self) -> str:
        return (
            f"{self.cores} cores ({self.cpu}); others used {self.foreign:.1%}, stolen {self.steal:.1%}, "
            f"CPU pressure {self.pressure:.0%} over {self.seconds:.0f} s"
        )

    def as_dict(self) -> dict[str, object]:
        """For a result file."""
        return {**asdict(self), "quiet": self.quiet}


class Watch:
    """Watches the machine from `start` to `stop`.

    `own` are the roots of the process trees that belong to the benchmark; the calling process is one of them.
    A process that ends between the two readings takes its processor time along, which then counts as foreign:
    stop a watch while the parts run.
    """

    def __init__(self, own: Iterable[int] = ()) -> None:
        self._own = {os.getpid(), *own}
        self._begin = self._read()

    @classmethod
    def start(cls, own: Iterable[int] = ()) -> Self:
        """Take the first reading."""
        return cls(own)

    def stop(self, started: Iterable[int] = ()) -> Conditions:
        """Take the second reading. `started`: roots of its process trees begun since the first."""
        self._own |= set(started)
        wall, busy, steal, stalled, mine = (b - a for a, b in zip(self._begin, self._read(), strict=True))
        capacity = wall * (os.cpu_count() or 1)
        return Conditions(
            cpu=_cpu_model(),
            cores=os.cpu_count() or 1,
            seconds=wall,
            foreign=max(0.0, busy - mine) / capacity,
            steal=steal / capacity,
            pressure=stalled / wall,
        )

    def _read(self) -> tuple[float, float, float, float, float]:
        times = psutil.cpu_times()
        busy = times.user + times.nice + times.system + times.irq + times.softirq
        return time.monotonic(), busy, times.steal, _stalled_seconds(), cpu_seconds(self._own)


def cpu_seconds(roots: Iterable[int]) -> float:
    """Processor seconds used so far by the process trees at `roots`, ended children included."""
    total = 0.0
    for pid in tree(roots):
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def tree(roots: Iterable[int]) -> set[int]:
    """Process ids of `roots` and all their descendants."""
    found: set[int] = set()
    for root in roots:
        try:
            process = psutil.Process(root)
            found |= {root, *(child.pid for child in process.children(recursive=True))}
        except psutil.NoSuchProcess:
            continue
    return found


def _stalled_seconds() -> float:
    """Seconds since boot in which some task waited for a core; 0 where the kernel keeps no such record."""
    try:
        some = Path("/proc/pressure/cpu").read_text("ascii").splitlines()[0]
    except OSError:
        return 0.0
    return int(some.rpartition("total=")[2]) / 1e6


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
