"""Keeps one part: starts it, outlives all that it starts, and leaves nothing behind.

Runs as a script of its own (`python -I -S keeper.py …`) between the supervisor and the part, with the
standard library only, because there is one per part and it must start at once and stay small. It is a
*subreaper*: a process that the part (or its children) left behind, even one that made itself a daemon,
becomes the keeper's child and is found.

- The part ends: what it left behind is ended, and the keeper exits with the part's status (128 + n for
  signal n).
- SIGTERM (or the supervisor's death, which the kernel turns into SIGTERM): the part gets SIGTERM, after
  the grace everything left gets SIGKILL. A second SIGTERM: SIGKILL at once.
- The keeper itself is killed: the kernel kills the part, and the supervisor, a subreaper too, inherits and
  kills the rest.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LEFTOVER_GRACE_S = 2.0

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int, sig: signal.Signals) -> None:
    """Have the kernel send `sig` when the process `parent` dies; end now if it died already."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(128 + sig)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(root: int) -> set[int]:
    """Every living process below `root`, from /proc."""
    parents = dict(_parents())
    found = {root}
    grew = True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        grew = bool(more)
        found |= more
    return found - {root}


def _parents() -> Iterator[tuple[int, int]]:
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with suppress(OSError, ValueError, IndexError), open(f"/proc/{entry.name}/stat", "rb") as file:  # noqa: PTH123
            # The name is in parentheses and may hold anything: what follows the last one is state and parent.
            state, parent = file.read().rpartition(b")")[2].split()[:2]
            if state not in (b"Z", b"X"):
                yield int(entry.name), int(parent)


class _Keeper:
    def __init__(self, argv: list[str], grace_s: float) -> None:
        self._grace_s = grace_s
        self._kill_at: float | None = None
        me = os.getpid()
        self._part = subprocess.Popen(argv, preexec_fn=lambda: die_with_parent(me, signal.SIGKILL))
        # Only now: a SIGTERM before this ends the keeper, and with it, by the line above, the part.
        signal.signal(signal.SIGTERM, self._asked_to_end)

    @property
    def pid(self) -> int:
        return self._part.pid

    def _asked_to_end(self, signum: int, frame: object) -> None:
        now = time.monotonic()
        if self._kill_at is not None:
            self._kill_at = now
            return
        self._kill_at = now + self._grace_s
        self._part.terminate()

    def run(self) -> int:
        """Wait for the part, then for everything it left; returns its status."""
        status = self._wait_for_part()
        self._end_leftovers()
        return status if status >= 0 else 128 - status

    def _wait_for_part(self) -> int:
        while (status := self._part.poll()) is None:
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                _signal_all(signal.SIGKILL)
            self._reap()
            # SIGCHLD and SIGTERM end the wait early; the timeout covers a signal that came just before it.
            signal.sigtimedwait({signal.SIGCHLD}, 0.2 if self._kill_at else 1.0)
        return status

    def _end_leftovers(self) -> None:
        deadline = min(time.monotonic() + _LEFTOVER_GRACE_S, self._kill_at or float("inf"))
        if descendants(os.getpid()):
            _signal_all(signal.SIGTERM)
        while descendants(os.getpid()):
            if time.monotonic() >= deadline:
                _signal_all(signal.SIGKILL)
            self._reap()
            time.sleep(0.02)
        self._reap()

    def _reap(self) -> None:
        """Collect ended orphans, leaving the part itself to its handle."""
        with suppress(ChildProcessError):
            while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if found.si_pid == self._part.pid and self._part.returncode is None:
                    return
                os.waitpid(found.si_pid, 0)


def _signal_all(sig: signal.Signals) -> None:
    for pid in descendants(os.getpid()):
        with suppress(ProcessLookupError):
            os.kill(pid, sig)


def main(arguments: list[str]) -> int:
    """`keeper.py SUPERVISOR_PID GRACE_S PID_FD PROGRAM [ARGUMENT…]`; writes the part's pid to PID_FD."""
    supervisor, grace, pid_fd = int(arguments[0]), float(arguments[1]), int(arguments[2])
    adopt_orphans()
    die_with_parent(supervisor, signal.SIGTERM)
    try:
        keeper = _Keeper(arguments[3:], grace)
    except OSError as error:
        print(f"cannot start {arguments[3]}: {error}", file=sys.stderr)
        return 127
    # Blocked for sigtimedwait, and only after the start: the part would inherit the mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    with os.fdopen(pid_fd, "w") as pipe:
        pipe.write(f"{keeper.pid}\n")
    return keeper.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
