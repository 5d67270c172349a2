"""How far another site is: round trip and bandwidth, from the times that exchanges take.

A question of b bytes has its answer's first byte after `round trip + b / bandwidth`. Most questions are
small; now and then one is padded to what a TCP connection sends at once after a pause (ten segments, RFC
6928), so that its bytes follow each other at the link's speed and slow start does not bend the measure. The
smallest of several times is the one in which least stood in the way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from serving.router.telemetry.summary import Link

PADDING_CHARACTERS = 13_600
"""Of base64, of which zlib leaves three quarters: with a summary beside it still within ten segments."""
_AT_FIRST, _PADDED_EVERY = 8, 30
"""Every other of the first exchanges, then one in so many: 10 kB in 15 s are 0.06% of 10 Mbit/s."""
_REMEMBERED, _PADDED_REMEMBERED = 20, 8
_FORGET_AFTER_S = 30.0
_LEAST_S = 0.002
"""A difference smaller than this is lost in what processes take to wake up: with 10 kB, above 40 Mbit/s."""


@dataclass(frozen=True)
class _Sample:
    at: float
    size: int
    seconds: float


class LinkMeter:
    """Of the way to one site. `clock`: monotonic, seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._small: deque[_Sample] = deque(maxlen=_REMEMBERED)
        self._padded: deque[_Sample] = deque(maxlen=_PADDED_REMEMBERED)
        self._asked = 0

    def wants_padding(self) -> bool:
        """Whether the next question is to be padded; call it once for each."""
        self._asked += 1
        return self._asked % (2 if self._asked <= _AT_FIRST else _PADDED_EVERY) == 0

    def add(self, size: int, seconds: float, *, padded: bool) -> None:
        """A question of `size` bytes was answered after `seconds`, the other agent's own work left out."""
        (self._padded if padded else self._small).append(_Sample(self._clock(), size, max(0.0, seconds)))

    def link(self) -> Link | None:
        """What the last exchanges say; None: there were none in the last half minute."""
        now = self._clock()
        small = [each for each in self._small if each.at > now - _FORGET_AFTER_S]
        if not small:
            return None
        least = min(small, key=lambda each: each.seconds)
        bytes_per_s = self._bandwidth(small, least)
        transfer = least.size / bytes_per_s if bytes_per_s else 0.0
        return Link(
            rtt_ms=round(max(0.0, least.seconds - transfer) * 1000, 3),
            mbit_s=round(bytes_per_s / 125_000, 3) if bytes_per_s else None,
        )

    def _bandwidth(self, small: list[_Sample], least: _Sample) -> float | None:
        """Bytes/s; None: none measured, or the difference does not stand out from the scatter."""
        if not self._padded:
            return None
        large = min(self._padded, key=lambda each: each.seconds)
        scatter = median(each.seconds for each in small) - least.seconds
        longer, more = large.seconds - least.seconds, large.size - least.size
        return more / longer if more > 0 and longer > _LEAST_S + 2 * scatter else None
