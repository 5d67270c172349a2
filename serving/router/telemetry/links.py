"""How far another site is: round trip and bandwidth, from the times that exchanges take.

A question of b bytes has its answer's first byte after `round trip + b / bandwidth`. Most questions are
small; now and then one is padded to what a TCP connection sends at once after a pause (ten segments, RFC
6928), so that its bytes follow each other at the link's speed and slow start does not bend the measure. What
else is on the way makes times longer, never shorter, so the short ones are looked at: for the round trip the
shortest, for the bandwidth the lower quintiles of small and padded ones of the same minutes. (The shortest of
many and the shortest of few say different things.) Where the kernel paces, only a link stands out that is
slower than that: what else is thin has to be declared.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np

from serving.router.telemetry.summary import Link

PADDING_CHARACTERS = 13_600
"""Of base64, of which zlib leaves three quarters: with a summary beside it still within ten segments."""
_AT_FIRST, _PADDED_EVERY = 16, 20
"""Every other of the first exchanges, then one in so many: 12 kB in 10 s are 0.1% of 10 Mbit/s."""
_REMEMBERED = 20
"""Small ones, for the round trip."""
_PADDED_REMEMBERED, _BESIDE = 12, 5
"""Padded ones, and small ones before each, for the bandwidth."""
_ENOUGH = 6
_FORGET_AFTER_S = 30.0
_CONGESTION_CONTROL = Path("/proc/sys/net/ipv4/tcp_congestion_control")
_QUICK = 0.2
"""Share of the times, small and padded ones each, that are shorter than those that are compared."""
_LEAST_S = 0.002
"""A difference smaller than this is lost in what processes take to wake up: with 10 kB, above 40 Mbit/s."""
_PACED = 0.3
"""Of the round trip: more than a kernel whose congestion control is BBR takes to send what fits into it,
however fast the link is. (With 80 ms and 1 Gbit/s a padded question took 15 to 20 ms longer.)"""
_SURE = 3.0
"""Standard errors by which a difference has to stand out."""


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    size: int
    seconds: float


def is_paced() -> bool:
    """Whether this kernel's default is to spread packets over the round trip."""
    try:
        return _CONGESTION_CONTROL.read_text().startswith("bbr")
    except OSError:
        return False


class LinkMeter:
    """Of the way to one site. `clock`: monotonic, seconds. `paced`: whether the kernel spreads packets."""

    def __init__(self, clock: Callable[[], float], *, paced: bool = False) -> None:
        self._clock, self._paced = clock, _PACED if paced else 0.0
        self._small: deque[_Sample] = deque(maxlen=_REMEMBERED)
        self._since_padded = 0
        self._beside: deque[float] = deque(maxlen=_PADDED_REMEMBERED * _BESIDE)
        self._padded: deque[float] = deque(maxlen=_PADDED_REMEMBERED)
        self._answers = 0
        self._s_per_byte = 0.0

    def wants_padding(self) -> bool:
        """Whether the next question is to be padded: by how many were answered, for others tell nothing."""
        number = self._answers + 1
        return number % (2 if number <= _AT_FIRST else _PADDED_EVERY) == 0

    def add(self, size: int, seconds: float, *, padded: bool) -> None:
        """A question of `size` bytes was answered after `seconds`, the other agent's own work left out."""
        self._answers += 1
        seconds = max(0.0, seconds)
        if not padded:
            self._small.append(_Sample(self._clock(), size, seconds))
            self._since_padded += 1
        elif self._small:
            fresh = min(self._since_padded, _BESIDE, len(self._small))
            self._beside.extend(each.seconds for each in list(self._small)[len(self._small) - fresh :])
            self._padded.append(seconds)
            self._since_padded = 0
            self._compare(size - self._small[-1].size)

    def link(self) -> Link | None:
        """What the last exchanges say; None: there were none in the last half minute."""
        now = self._clock()
        small = [each for each in self._small if each.at > now - _FORGET_AFTER_S]
        if not small:
            return None
        least = min(small, key=lambda each: each.seconds)
        round_trip = max(0.0, least.seconds - least.size * self._s_per_byte)
        return Link(
            rtt_ms=round(round_trip * 1000, 3),
            mbit_s=round(8e-6 / self._s_per_byte, 3) if self._s_per_byte else None,
        )

    def _compare(self, more: int) -> None:
        """Learn from small and padded ones, which have so many bytes `more`.

        A quantile's standard error is sqrt(q (1 - q) / n) over the density there (van der Vaart, Asymptotic
        Statistics, 21.2), which is what lies between it and the one twice as high. What has stood out once
        counts until half of it is gone.
        """
        if min(len(self._padded), len(self._beside)) < _ENOUGH or more <= 0:
            return
        quick, above = np.quantile(self._beside, (_QUICK, 2 * _QUICK))
        longer = float(np.quantile(self._padded, _QUICK) - quick)
        order = sqrt(_QUICK * (1 - _QUICK) * (1 / len(self._padded) + 1 / len(self._beside)))
        error = order * float(above - quick) / _QUICK
        if longer > _LEAST_S + self._paced * float(quick) + _SURE * error:
            self._s_per_byte = longer / more
        elif longer < self._s_per_byte * more / 2:
            self._s_per_byte = 0.0
