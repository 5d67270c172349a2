"""Latency histograms of fixed precision that can be added: HdrHistogram (http://hdrhistogram.org).

Values are whole microseconds from 1 µs to one hour, kept to three significant digits; longer ones count as
an hour.
"""

from __future__ import annotations

from collections.abc import Iterable

from hdrh.histogram import HdrHistogram

LONGEST_US = 3_600_000_000
DIGITS = 3


class Histogram:
    """Latencies of many requests."""

    def __init__(self) -> None:
        self._hdr = HdrHistogram(1, LONGEST_US, DIGITS)

    @classmethod
    def decode(cls, text: str) -> Histogram:
        """From what `encode` gave. Raises `ValueError` when it is something else."""
        found = cls()
        try:
            found._hdr.decode_and_add(text.encode("ascii"))
        except Exception as error:  # the decoder raises bare struct, zlib and binascii errors too
            raise ValueError(f"not an HdrHistogram: {error}") from error
        return found

    @classmethod
    def sum(cls, parts: Iterable[Histogram]) -> Histogram:
        """All of them in one; equal to one that had recorded everything itself."""
        found = cls()
        for part in parts:
            found.add(part)
        return found

    def record(self, seconds: float) -> None:
        """Count one request that took so long."""
        self._hdr.record_value(min(LONGEST_US, max(1, round(seconds * 1e6))))

    def add(self, other: Histogram) -> None:
        """Count what `other` has counted as well."""
        self._hdr.add(other._hdr)

    def encode(self) -> str:
        """Compressed, base 64: HdrHistogram's own format V2, which its tools in other languages read."""
        text: bytes = self._hdr.encode()
        return text.decode("ascii")

    @property
    def count(self) -> int:
        """Requests."""
        return int(self._hdr.get_total_count())

    @property
    def mean_ms(self) -> float:
        """Mean, milliseconds; 0 when nothing was recorded."""
        return float(self._hdr.get_mean_value()) / 1e3 if self.count else 0.0

    @property
    def max_ms(self) -> float:
        """Largest, milliseconds; 0 when nothing was recorded."""
        return float(self._hdr.get_max_value()) / 1e3 if self.count else 0.0

    def percentile_ms(self, percent: float) -> float:
        """What `percent` (0 to 100) of the requests did not exceed, milliseconds; 0 when there are none."""
        return float(self._hdr.get_value_at_percentile(percent)) / 1e3 if self.count else 0.0
