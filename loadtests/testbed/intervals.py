"""How sure a comparison of two policies is: rounds are resampled, those of both together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from loadtests.comparison.bootstrap import interval, round_weights
from models.schema import Strict

LEVEL = 0.9
FEWEST_ROUNDS = 3
"""Of which an interval can be told."""
Times = npt.NDArray[np.float64]


class Ratio(Strict):
    """One figure over another, with its interval at `LEVEL` where there were rounds enough."""

    value: float
    low: float | None = None
    high: float | None = None


def ratio(ours: Sequence[Times], theirs: Sequence[Times], percent: float | None) -> Ratio | None:
    """Of the means, or of percentiles; the times of each round. None: one of them had no request."""
    if not sum(map(len, ours)) or not sum(map(len, theirs)):
        return None
    rounds = len(ours)
    value = _log_ratio(ours, theirs, np.ones(rounds), percent)
    if rounds < FEWEST_ROUNDS:
        return Ratio(value=math.exp(value))
    weights = round_weights(rounds, np.random.default_rng(1))
    distinct, which = np.unique(weights, axis=0, return_inverse=True)
    found = np.array([_log_ratio(ours, theirs, each, percent) for each in distinct])
    around = interval(found[which.ravel()] - value, rounds, LEVEL)
    if around is None:
        return Ratio(value=math.exp(value))
    low, high = around
    return Ratio(value=math.exp(value), low=math.exp(value + low), high=math.exp(value + high))


def _log_ratio(
    ours: Sequence[Times], theirs: Sequence[Times], weights: npt.NDArray[np.float64], percent: float | None
) -> float:
    """When each round counts so many times; NaN where nothing is left."""
    pair = [
        np.concatenate([np.repeat(times, int(many)) for times, many in zip(of, weights, strict=True)])
        for of in (ours, theirs)
    ]
    if not all(map(len, pair)):
        return math.nan
    one, other = (float(np.mean(each) if percent is None else np.percentile(each, percent)) for each in pair)
    return math.log(one / other) if one > 0 and other > 0 else math.nan
