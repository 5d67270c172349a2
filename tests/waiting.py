"""What every test that starts processes needs."""

from __future__ import annotations

import itertools
import os
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_BLOCK = 1000
_FIRST = 10_000 + _BLOCK * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_START = random.randrange(_BLOCK)
_ports = (_FIRST + (_START + number) % _BLOCK for number in itertools.count())


def until(condition: Callable[[], Any], what: str, seconds: float = 240) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)
    return found


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, and that nobody takes before they are listened on.

    They are below those that the kernel gives to outgoing connections and those that `serving.site.ports`
    chooses from; each process of a test run has a block of its own, and takes all of it in turn.
    """
    found: list[int] = []
    while len(found) < count:
        port = next(_ports)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found
