"""How long things take: declared distributions, and endless streams of draws from them."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from loadtests.campaign import NotNegative, Positive
from models.schema import Strict

Floats = npt.NDArray[np.float64]
BLOCK = 4096
"""Draws made at once: numpy's cost per call is spread over them."""


class Constant(Strict):
    """Always the same."""

    kind: Literal["constant"]
    mean_ms: NotNegative

    def draw(self, random: np.random.Generator, size: int) -> Floats:
        """So many draws, seconds."""
        return np.full(size, self.mean_ms / 1e3)


class Exponential(Strict):
    """Without memory: as irregular as its mean."""

    kind: Literal["exponential"]
    mean_ms: Positive

    def draw(self, random: np.random.Generator, size: int) -> Floats:
        """So many draws, seconds."""
        return random.exponential(self.mean_ms / 1e3, size)


class Lognormal(Strict):
    """A long tail to the right, as inference of varying inputs has."""

    kind: Literal["lognormal"]
    mean_ms: Positive
    cv: Positive
    """Standard deviation over mean."""

    def draw(self, random: np.random.Generator, size: int) -> Floats:
        """So many draws, seconds."""
        variance = math.log1p(self.cv**2)
        return random.lognormal(math.log(self.mean_ms / 1e3) - variance / 2, math.sqrt(variance), size)


class Measured(Strict):
    """Empirical: quantiles of measured times, joined by straight lines."""

    kind: Literal["measured"]
    quantiles_ms: list[NotNegative] = Field(min_length=2)
    """At evenly spaced probabilities from 0 (the least) to 1 (the most), rising."""

    @model_validator(mode="after")
    def _rising(self) -> Measured:
        if any(b < a for a, b in zip(self.quantiles_ms, self.quantiles_ms[1:], strict=False)):
            raise ValueError("`quantiles_ms` must rise")
        return self

    @property
    def mean_ms(self) -> float:
        """Mean of what is drawn."""
        return float(np.trapz(self.quantiles_ms, dx=1 / (len(self.quantiles_ms) - 1)))

    def draw(self, random: np.random.Generator, size: int) -> Floats:
        """So many draws, seconds."""
        places = np.linspace(0, 1, len(self.quantiles_ms))
        return np.interp(random.random(size), places, self.quantiles_ms) / 1e3


Times = Annotated[Constant | Exponential | Lognormal | Measured, Field(discriminator="kind")]


def stream(times: Times, random: np.random.Generator) -> Callable[[], float]:
    """A function that gives the next draw, seconds."""

    def draws() -> Iterator[float]:
        while True:
            yield from times.draw(random, BLOCK).tolist()

    return draws().__next__


class Service:
    """Execution times of batches of any size, from distributions measured at some sizes.

    Between measured sizes the mean is interpolated and the shape is that of the next smaller one; beyond the
    largest, time grows in proportion to rows, as if more rows brought no further gain.
    """

    def __init__(self, by_rows: Mapping[int, Times], speed: float, random: np.random.Generator) -> None:
        self._sizes = sorted(by_rows)
        self._means = [by_rows[size].mean_ms / 1e3 / speed for size in self._sizes]
        self._streams = [stream(by_rows[size], random) for size in self._sizes]
        self._speed = speed
        self._known: dict[int, tuple[Callable[[], float], float]] = {}

    def mean(self, rows: int) -> float:
        """Mean time of an execution of so many rows, seconds."""
        sizes, means = self._sizes, self._means
        if rows >= sizes[-1]:
            return means[-1] * rows / sizes[-1]
        return float(np.interp(rows, sizes, means))

    def draw(self, rows: int) -> float:
        """Time of one execution of so many rows, seconds."""
        known = self._known.get(rows)
        if known is None:
            base = max(0, bisect_right(self._sizes, rows) - 1)
            mean = self._means[base]
            factor = (self.mean(rows) / mean if mean else 1.0) / self._speed
            known = self._known[rows] = (self._streams[base], factor)
        return known[0]() * known[1]


def cv2(times: Times) -> float:
    """Squared coefficient of variation."""
    match times:
        case Constant():
            return 0.0
        case Exponential():
            return 1.0
        case Lognormal():
            return times.cv**2
        case Measured():
            drawn = np.interp(
                np.linspace(0, 1, 1001), np.linspace(0, 1, len(times.quantiles_ms)), times.quantiles_ms
            )
            return float(drawn.var() / max(drawn.mean(), 1e-12) ** 2)


def mean_ms(times: Any) -> float:
    """Mean of declared times; 0 where none are declared."""
    return float(times.mean_ms) if times else 0.0
