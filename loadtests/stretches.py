"""Latencies of several slices of a run together.

A slice keeps four percentiles, not its latencies. What several slices have in common is read from
distributions rebuilt from those percentiles: straight lines between them on a logarithmic axis. Rebuilt
percentiles lie within a few percent of the true ones, within a fifth where a slice has few answers; a run's
own figures come from its histograms instead.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from loadtests.results import Slice

Floats = npt.NDArray[np.float64]
EDGES_MS = np.geomspace(1e-3, 3.6e6, 2_201)
"""A microsecond to an hour, in bins of 1%."""
BINS = len(EDGES_MS) - 1
_LOG_EDGES = np.log(EDGES_MS)
_MIDDLES_MS = np.sqrt(EDGES_MS[1:] * EDGES_MS[:-1])


def counts(slices: Iterable[Slice]) -> Floats:
    """Right answers of all these slices by latency: shape [BINS]."""
    found = np.zeros(BINS)
    for one in slices:
        if one.right <= 2:
            for value in (one.max_ms, 2 * one.p50_ms - one.max_ms)[: one.right]:
                found[_bin(value)] += 1
        else:
            found += one.right * np.diff(np.interp(_LOG_EDGES, _knots(one), (0, 0.5, 0.9, 0.99, 1)))
    return found


def _bin(value_ms: float) -> int:
    return int(np.clip(np.searchsorted(EDGES_MS, value_ms, "right") - 1, 0, BINS - 1))


def _knots(one: Slice) -> Floats:
    # The fastest is not kept: taken as far below the median as the 90th percentile lies above it.
    fastest = max(one.p50_ms**2 / max(one.p90_ms, 1e-3), one.p50_ms / 4)
    values = np.clip([fastest, one.p50_ms, one.p90_ms, one.p99_ms, one.max_ms], EDGES_MS[0], EDGES_MS[-1])
    # Equal neighbours are moved apart by less than a bin: `np.interp` wants them to rise.
    return np.asarray(np.maximum.accumulate(np.log(values)) + np.arange(5) * 1e-9)


def percentile_ms(counted: Floats, percent: float) -> Floats:
    """For counts of shape [..., BINS] a latency of shape [...]; NaN where nothing was counted."""
    rising = np.cumsum(counted, axis=-1)
    total = rising[..., -1:]
    wanted = total * percent / 100
    place = np.clip((rising < wanted).sum(axis=-1, keepdims=True), 0, BINS - 1)
    here = np.take_along_axis(counted, place, axis=-1)
    before = np.take_along_axis(rising, place, axis=-1) - here
    share = np.clip((wanted - before) / np.where(here > 0, here, 1), 0, 1)
    low, high = _LOG_EDGES[place], _LOG_EDGES[place + 1]
    return np.where(total > 0, np.exp(low + share * (high - low)), np.nan)[..., 0]


def mean_ms(counted: Floats) -> Floats:
    """For counts of shape [..., BINS] a mean latency of shape [...]; NaN where nothing was counted."""
    total = counted.sum(axis=-1)
    return np.where(total > 0, counted @ _MIDDLES_MS / np.where(total > 0, total, 1), np.nan)
