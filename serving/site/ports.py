"""Inner ports of a site: chosen free, kept over restarts; and who holds a port that is wanted.

Inner ports come from below the kernel's ephemeral range, so that no outgoing connection takes one while
its part is being restarted. A port just chosen is claimed, so that no other headend of this machine chooses
it too; between choosing and listening another program may still come first: the part then fails to start,
its log says why, and the next `headend up` chooses others.
"""

from __future__ import annotations

import errno
import random
import socket
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress

import psutil

_FIRST, _LAST = 20_000, 32_000
_claims: deque[socket.socket] = deque()
_CLAIMS = 100
"""So many claims of this process stand: more than a machine's sites have ports, and an end to it."""


def obstacle(address: str) -> str:
    """Why no server could listen on `address` (`host:port`) now; empty if one could."""
    host, _, port = address.rpartition(":")
    try:
        _listen(host.strip("[]"), int(port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return f"{address} is held by {holder(int(port))}"
        return f"{address} cannot be listened on: {error.strerror}"
    return ""


def _listen(host: str, port: int) -> None:
    """Try it. Raises `OSError` when it does not work."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def _is_free(port: int) -> bool:
    try:
        _listen("127.0.0.1", port)
    except OSError:
        return False
    return True


def choose(purposes: Iterable[str], kept: Mapping[str, int], taken: set[int]) -> dict[str, int]:
    """A port on 127.0.0.1 for each purpose: the kept one while it is free, and never one of `taken`."""
    chosen: dict[str, int] = {}
    for purpose in purposes:
        wanted = kept.get(purpose, 0)
        if not wanted or wanted in taken or not _is_free(wanted):
            wanted = _pick(taken | set(chosen.values()))
        chosen[purpose] = wanted
    return chosen


def _pick(taken: set[int]) -> int:
    while True:
        port = random.randint(_FIRST, _LAST)
        if port not in taken and _is_free(port) and _claim(port):
            return port


def _claim(port: int) -> bool:
    """Hold a name for `port` that only one process can hold, until this one ends; whether it could be had.

    Linux's abstract sockets leave nothing behind, and belong to a network namespace as ports do.
    """
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0headend-port-{port}")
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    if len(_claims) > _CLAIMS:
        _claims.popleft().close()
    return True


def holder(port: int) -> str:
    """Who listens on `port`, in words: `pid 123 (nginx -g …)`."""
    for connection in psutil.net_connections("tcp"):
        if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
            continue
        if connection.laddr.port == port:
            with suppress(psutil.Error):
                process = psutil.Process(connection.pid)
                return f"pid {process.pid} ({' '.join(process.cmdline())[:80] or process.name()})"
    return "a process of another user"
