"""How the figures of A and B differ, and how much that difference varies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtests.comparison import bootstrap
from loadtests.comparison.figures import FIGURES, Figure, Floats, Measured, measured, resampled, sliced
from loadtests.results import Result
from models.errors import UsageError
from serving.fleet import Class

FEWEST_BLOCKS = 3
"""Fewer say nothing about how much they vary."""
_SEED = 1


@dataclass(frozen=True)
class Seen:
    """One figure of both, and how it varied."""

    class_: Class | None
    figure: Figure
    a: float
    b: float
    log: float
    """Logarithm of the ratio."""
    spread: tuple[float, float]
    """How far below and above it the truth may lie."""


def seen(
    a: Sequence[Result], b: Sequence[Result], class_: Class | None, confidence: float
) -> dict[Figure, Seen]:
    """Every figure that both have, of one class or of all; runs of one each, or rounds in pairs.

    Raises `UsageError` when single runs are too short to vary.
    """
    of_a, of_b = ([measured(one, class_) for one in runs] for runs in (a, b))
    random = np.random.default_rng(_SEED)
    if len(a) > 1:
        units = float(len(a))
        varied = _by_rounds(of_a, of_b, bootstrap.round_weights(len(a), random), random)
    else:
        units, varied = _by_time(a[0], b[0], class_, random)
    found: dict[Figure, Seen] = {}
    for figure in FIGURES:
        log = _log_ratio(of_a, of_b, figure)
        spread = bootstrap.interval(varied[figure], units, confidence) if figure in varied else None
        if log is not None and spread is not None:
            values = _value(of_a, figure), _value(of_b, figure)
            found[figure] = Seen(class_, figure, *values, log, spread)
    return found


def _log_ratio(a: Sequence[Measured], b: Sequence[Measured], figure: Figure) -> float | None:
    if figure == "errors":
        # One failure more, so that none can be compared; where neither had any there is nothing to say.
        return _log_failures(b) - _log_failures(a) if any(one.failed for one in (*a, *b)) else None
    values = [[one.values.get(figure, 0.0) for one in runs] for runs in (a, b)]
    return float(np.mean(np.log(values[1]) - np.log(values[0]))) if np.all(values) else None


def _log_failures(runs: Sequence[Measured]) -> float:
    return math.log((sum(one.failed for one in runs) + 1) / (sum(one.sent for one in runs) + 1))


def _value(runs: Sequence[Measured], figure: Figure) -> float:
    if figure == "errors":
        return sum(one.failed for one in runs) / sum(one.sent for one in runs)
    return math.exp(float(np.mean([math.log(one.values[figure]) for one in runs])))


def _by_rounds(
    a: Sequence[Measured], b: Sequence[Measured], weights: Floats, random: np.random.Generator
) -> dict[Figure, Floats]:
    """Deviations of every figure's logarithmic ratio when rounds are resampled."""
    found: dict[Figure, Floats] = {}
    for figure in FIGURES:
        if figure == "errors":
            sent_failed = [np.array([[one.sent, one.failed] for one in runs], float) for runs in (a, b)]
            noisy = [
                np.log(random.gamma(weights @ each[:, 1] + 1) / (weights @ each[:, 0] + 1))
                for each in sent_failed
            ]
            found[figure] = noisy[1] - noisy[0] - (_log_failures(b) - _log_failures(a))
        elif _log_ratio(a, b, figure) is not None:
            pairs = zip(a, b, strict=True)
            logs = np.array([math.log(y.values[figure] / x.values[figure]) for x, y in pairs])
            found[figure] = weights @ logs / len(logs) - logs.mean()
    return found


def _by_time(
    a: Result, b: Result, class_: Class | None, random: np.random.Generator
) -> tuple[float, dict[Figure, Floats]]:
    """How many blocks of time there are, and deviations of every figure when they are resampled."""
    of_a, of_b = sliced(a, class_), sliced(b, class_)
    number = len(of_a.sent)
    blocks = number / bootstrap.block_length(number)
    if blocks < FEWEST_BLOCKS:
        raise UsageError(
            f"{a.judged_s:g} s are too short to see how much the figures vary",
            hint="Make the campaign longer, or compare several rounds.",
        )
    weights, whole = bootstrap.block_weights(number, random), np.ones((1, number))
    varied = [resampled(of, weights, random) for of in (of_a, of_b)]
    rebuilt = [resampled(of, whole, None) for of in (of_a, of_b)]
    with np.errstate(invalid="ignore"):
        return blocks, {
            figure: varied[1][figure] - varied[0][figure] - (rebuilt[1][figure] - rebuilt[0][figure])
            for figure in FIGURES
        }
