"""Whether a part answers, and whether one that does not is late or stands still."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import httpx

_TIMEOUT_S = 2.0
_IDLE_SHARE = 0.02
"""Of a core: what a process takes that only looks around now and then."""


class Probe(NamedTuple):
    """What a part said."""

    ok: bool
    reason: str = ""
    """Why it is not."""
    is_silent: bool = False
    """It did not answer in time."""


class Prober:
    """Asks parts; make it inside the event loop it is used in."""

    def __init__(self) -> None:
        # A connection per probe: one kept open would have a part that is ending wait for it.
        headers = {"connection": "close", "user-agent": "headend-supervisor"}
        # Its own parts at addresses that no certificate names: whether they answer is all that is asked.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._client = httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False, headers=headers, verify=context)

    async def ask(self, url: str) -> Probe:
        """Whether `url` answers 200, and if not, why."""
        try:
            response = await self._client.get(url)
        except httpx.HTTPError as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return Probe(False, reason, isinstance(error, httpx.TimeoutException))
        if response.status_code == httpx.codes.OK:
            return Probe(True)
        return Probe(False, f"{url} answers {response.status_code}: {response.text[:200]}".strip())

    async def close(self) -> None:
        """Once."""
        await self._client.aclose()


@dataclass(frozen=True)
class Activity:
    """What some processes do at a moment, from /proc/PID/stat (proc(5))."""

    computed_s: float
    """Processor time that they have had."""
    is_busy: bool
    """A thread of theirs has, or waits for, a processor or a disk."""

    @classmethod
    def of(cls, pids: Iterable[int]) -> Self:
        """Of those of `pids` that still live."""
        ticks, is_busy = 0, False
        for pid in pids:
            for path in Path(f"/proc/{pid}/task").glob("*/stat"):
                with suppress(OSError):
                    fields = path.read_bytes().rpartition(b")")[2].split()
                    ticks += int(fields[11]) + int(fields[12])
                    is_busy |= fields[0] in (b"R", b"D")
        return cls(ticks / os.sysconf("SC_CLK_TCK"), is_busy)


class Silence:
    """A part that does not answer, from its first probe without an answer on."""

    def __init__(self) -> None:
        self._began: tuple[float, Activity] | None = None

    def lasts(self, activity: Activity) -> bool:
        """After each such probe: whether it has done nothing since, so that it is not merely late."""
        now = time.monotonic()
        if self._began is None or activity.is_busy:
            self._began = now, activity
            return False
        at, before = self._began
        idle = activity.computed_s - before.computed_s <= _IDLE_SHARE * (now - at)
        return idle and not before.is_busy
