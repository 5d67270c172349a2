"""Starts Triton with a small process at its side that ends it when one of its Python processes crashes.

Triton 2.51 never notices that the stub process of a Python model is gone: the model stays `ready` and answers
every request with an INTERNAL error after a second, for good. An error cannot be retried by a front door; a
closed connection can. So a crashed stub takes its Triton with it, at once: requests in flight move to another
site, and the supervisor starts Triton again.

Runs as a script of its own (`python -I -S watcher.py PROGRAM [ARGUMENT…]`) with the standard library only. It
forks the watcher and then *becomes* Triton, so Triton has the process id that the supervisor knows.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

SERVING = b"headend-model"
"""What a stub process calls itself once it serves (at most 15 bytes): before, Triton notices its end, and
reports a failed load."""
_PR_SET_PDEATHSIG = 1
_SCAN_EVERY_MS = 2000
_REAP_S = 0.1
"""Triton collects a stub that it ended itself within this; a crashed one it leaves as a zombie."""


def watch(triton: int) -> None:
    """Kill `triton` as soon as one of its serving stubs has crashed; runs until then."""
    stubs: dict[int, int] = {}
    ended = select.poll()
    while True:
        for pid in set(_stubs(triton)) - set(stubs.values()):
            with suppress(ProcessLookupError):
                descriptor = os.pidfd_open(pid)
                stubs[descriptor] = pid
                ended.register(descriptor, select.POLLIN)
        for descriptor, _ in ended.poll(_SCAN_EVERY_MS):
            ended.unregister(descriptor)
            os.close(descriptor)
            pid = stubs.pop(descriptor)
            time.sleep(_REAP_S)
            if status := _crashed(pid):
                print(
                    f"Triton's Python process {pid} ended by {status}: ending Triton",
                    file=sys.stderr,
                    flush=True,
                )
                os.kill(triton, signal.SIGKILL)
                return


def _stubs(triton: int) -> Iterator[int]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            name, rest = fields
            if name == SERVING and int(rest[1]) == triton:
                yield int(entry.name)


def _crashed(pid: int) -> str:
    """How the process ended, if it is a zombie that did not end well."""
    fields = _stat(pid)
    if not fields or fields[1][0] != b"Z":
        return ""
    status = int(fields[1][-1])
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"status {os.WEXITSTATUS(status)}" if status else ""


def _stat(pid: int) -> tuple[bytes, list[bytes]] | None:
    """Name of a process and what follows it in `/proc/<pid>/stat`: state, parent, …, exit code (proc(5))."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 — pathlib would double this process's memory
            head, _, tail = file.read().rpartition(b")")
    except OSError:
        return None
    return head.partition(b"(")[2], tail.split()


def main(argv: list[str]) -> None:
    """Fork the watcher, then become the program."""
    triton = os.getpid()
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != triton:
            os._exit(0)
        # Ctrl-C reaches the whole process group; the watcher ends with Triton, not before.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        watch(triton)
        os._exit(0)
    os.execv(argv[0], argv)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
