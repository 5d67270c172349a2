"""How long executions take, by batch size, and how much that varies, from sums alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from serving.router.telemetry.summary import BatchTime

_FEWEST_GROUPS = 5
"""Readings with executions, below which nothing is said of the variance."""

FEW = 8
"""Times that a mean is taken of at least: of one alone it would be off by what single ones vary."""


@dataclass
class MeanOfFew:
    """Of the last few times, however long ago, the older ones counting less and less."""

    count: float = 0.0
    mean: float = 0.0

    def add(self, count: float, total: float) -> None:
        """So many more, which sum up to `total`."""
        if count > 0:
            self.count = min(self.count + count, max(FEW, count))
            self.mean += (total / count - self.mean) * count / self.count


def squared_variation(groups: Iterable[tuple[float, float]]) -> float | None:
    """Squared coefficient of variation of single times, from groups of (how many, sum of their times).

    Triton counts sums, never squares. The means of groups of n scatter with 1/n of the variance of single
    times, so that the sum of n (mean - overall mean)² over the groups, divided by their number less one, is
    an unbiased estimate of it (the between-groups mean square of a one-way analysis of variance).
    None: too few groups.
    """
    known = [(count, total) for count, total in groups if count > 0]
    if len(known) < _FEWEST_GROUPS:
        return None
    mean = sum(total for _, total in known) / sum(count for count, _ in known)
    if mean <= 0:
        return None
    square = sum(count * (total / count - mean) ** 2 for count, total in known) / (len(known) - 1)
    return square / mean**2


def capacity(
    by_batch: Mapping[int, BatchTime], instances: int, rows_per_request: float, recorded: float | None
) -> float | None:
    """Requests/s that all instances answer: instances × rows ÷ time, at the best batch size that was seen.

    `recorded`: what the site's capacity record says. A record is a careful measurement of minutes under other
    circumstances, what is seen now one of seconds under these: they meet at their geometric mean, moved to
    what is seen by how much of it there is. None: neither is known.
    """
    seen = [
        (rows * 1000 / time.mean_ms, time.executions) for rows, time in by_batch.items() if time.mean_ms > 0
    ]
    if not seen:
        return recorded
    measured = instances * max(rate for rate, _ in seen) / max(1.0, rows_per_request)
    if recorded is None:
        return measured
    busy = sum(time.executions * time.mean_ms / 1000 for time in by_batch.values()) / max(1, instances)
    weight = min(1.0, busy)
    return float(recorded ** (1 - weight) * measured**weight)
