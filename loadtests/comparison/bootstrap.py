"""Intervals by resampling what was measured (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993).

Several rounds are resampled as pairs. Of one run each, stretches of time are resampled, some neighbours
together as what follows upon each other is alike (circular block bootstrap: Politis and Romano, 1992), and
the same stretches of both runs, because both were offered the same load then.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
RESAMPLES = 4_000


def round_weights(rounds: int, random: np.random.Generator) -> Floats:
    """How often each round counts: shape [RESAMPLES, rounds]."""
    return random.multinomial(rounds, np.full(rounds, 1 / rounds), RESAMPLES).astype(np.float64)


def block_length(stretches: int) -> int:
    """Stretches that are resampled together: twice the cube root.

    The cube root is what theory asks for. With it, runs of one server whose speed wandered every six seconds
    were called different in 6 of 60 pairs; with twice as much in 2 of 60, which is what was promised.
    """
    return max(1, round(2 * math.cbrt(stretches)))


def block_weights(stretches: int, random: np.random.Generator) -> Floats:
    """How often each stretch counts: shape [RESAMPLES, stretches]."""
    length = block_length(stretches)
    begins = random.integers(stretches, size=(RESAMPLES, math.ceil(stretches / length)))
    taken = (begins[:, :, None] + np.arange(length)).reshape(RESAMPLES, -1)[:, :stretches] % stretches
    flat = (taken + np.arange(RESAMPLES)[:, None] * stretches).ravel()
    return np.bincount(flat, minlength=RESAMPLES * stretches).reshape(RESAMPLES, stretches).astype(np.float64)


def interval(deviations: Floats, units: float, level: float) -> tuple[float, float] | None:
    """How far below and above what was measured the truth may lie, at this confidence.

    `deviations` of resamples from what was measured; `units`: how many independent things were resampled.
    A bootstrap of few is too sure of itself: its interval is stretched as Student's t is wider than the
    normal distribution (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015). None where most
    resamples have no value.
    """
    known = deviations[np.isfinite(deviations)]
    if len(known) < len(deviations) / 2:
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    stretch = student(level, units - 1) / normal(level) * math.sqrt(units / (units - 1))
    return stretch * float(low), stretch * float(high)


def normal(level: float) -> float:
    """Within so many standard deviations lies this share of a normal distribution."""
    return NormalDist().inv_cdf((1 + level) / 2)


def student(level: float, freedom: float) -> float:
    """The same for Student's t with at least 2 degrees of freedom, within a tenth, from above where it errs
    (Peizer and Pratt, 1968).
    """
    z = normal(level)
    return math.sqrt(freedom * math.expm1(z * z * (freedom - 5 / 6) / (freedom - 2 / 3 + 0.1 / freedom) ** 2))
