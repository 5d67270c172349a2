"""Finds the knee: the load that a step holds as often as not. Below it objectives hold, above it they do not.

Single steps are noisy near the knee, so no single step decides. The search keeps a belief: how likely the
knee lies at each load, given every step so far and that the chance to hold falls with load along an S-curve
of unknown steepness. Loads are doubled until something misses; then steps go to the belief's lower and upper
quartile in turn, which is bisection that forgives a wrong answer: a step that contradicts the others widens
the belief, so its place is tried again. Quartiles, because steps at the middle alone would not tell a steep
curve from a flat one, and the interval would be told too narrow. (Probabilistic bisection, Horstein 1963;
unknown steepness as in Kontsevich and Tyler 1999, https://doi.org/10.1016/S0042-6989(98)00285-5.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.9
"""The knee lies in the interval that is told in this share of searches."""
SPREADS = np.array([0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64])
"""How wide the S-curve may be, in natural logarithms of load: at 0.1, a load 10% above the knee holds one
time in eight. A p99 over some hundred requests easily has 0.4."""
PRIOR = np.sqrt(SPREADS)
"""How likely each of them is before anything is tried: few steps should rather tell too wide an interval."""
LUCK = 0.01
"""Chance of a step that holds at any load, however high."""
HICCUP = 0.03
"""Chance of a step that misses at any load, however low: something else disturbed the machine."""
GRID = 0.005
"""Loads that are told apart, in natural logarithms."""
OCTAVES = 20
"""The knee is looked for up to so many doublings of the first load."""
LEAP = 2.0
"""No step goes further than by this factor above what held, or below what missed."""
TRIES = 3
"""So many steps at one load in which the generator was the bottleneck are proof that it cannot do more."""

Outcome = Literal["held", "missed", "unknown"]
"""`unknown`: the generator was the bottleneck, so the step says nothing of the fleet."""
Ended = Literal["width", "steps", "generator", "lowest", "highest", "stopped"]
"""What ended a search: the interval is as narrow as asked; no steps are left; the generator could not do
more; the knee lies below the lowest load, or above the highest; or the probe raised `Stop`."""


class Stop(Exception):
    """Raised by a probe to end its search early, with all that was found."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: a load, requests a second, and what became of it."""

    rate: float
    outcome: Outcome


S = TypeVar("S", bound=Step)


@dataclass(frozen=True, slots=True)
class Knee(Generic[S]):
    """What is known of the knee, requests a second."""

    rate: float | None
    """Where it most likely lies; None where only one side is known, or nothing."""
    at_least: float | None
    """None: nothing held."""
    below: float | None
    """None: nothing missed."""
    ended: Ended
    steps: tuple[S, ...]
    """In the order of trying."""


def search(
    probe: Callable[[float], S],
    start: float,
    *,
    lowest: float,
    width: float = 0.1,
    steps: int = 24,
    tell: Callable[[Knee[S]], None] = lambda _: None,
) -> Knee[S]:
    """Probe loads, beginning with `start`, until the knee's interval is at most `width` of its lower end.

    `lowest` is the smallest load worth trying, `steps` the most steps. `tell` hears what is known after each.
    A probe that raises `Stop` ends the search.
    """
    found = _Search[S](start, min(lowest, start))
    while not (ended := found.ended(width, steps)):
        try:
            found.learn(probe(found.next_rate()))
        except Stop:
            ended = "stopped"
            break
        tell(found.knee("steps"))
    return found.knee(ended)


class _Search(Generic[S]):
    def __init__(self, start: float, lowest: float) -> None:
        self._start, self._lowest, self._highest = start, lowest, start * LEAP**OCTAVES
        self._belief = _Belief(lowest / LEAP**2, self._highest * LEAP**2)
        self._steps: list[S] = []
        self._ceiling = np.inf

    def learn(self, step: S) -> None:
        self._steps.append(step)
        if step.outcome == "unknown":
            if len([rate for rate in self._rates("unknown") if rate <= step.rate * 1.01]) >= TRIES:
                self._ceiling = min(self._ceiling, step.rate)
        else:
            self._belief.learn(step.rate, step.outcome == "held")

    def next_rate(self) -> float:
        held, missed = self._rates("held"), self._rates("missed")
        if held and missed:
            quartile = self._belief.quantile((0.25, 0.75)[len(held + missed) % 2])
            rate = float(np.clip(quartile, min(missed) / LEAP, max(held) * LEAP))
        elif held or missed:
            rate = max(held) * LEAP if held else min(missed) / LEAP
        else:
            rate = self._start
        if rate >= self._ceiling:
            rate = float(np.sqrt(max(held) * self._ceiling)) if held else self._ceiling / LEAP
        return float(np.clip(rate, self._lowest, self._highest))

    def ended(self, width: float, steps: int) -> Ended | None:
        """Why there is no next step; None when there is one."""
        held, missed = self._rates("held"), self._rates("missed")
        low, high = self._interval()
        if held and missed and high <= low * (1 + width):
            return "width"
        if low > self._highest:
            return "highest"
        if high < self._lowest or self._ceiling <= self._lowest:
            return "lowest"
        if held and max(held) * 1.5 >= self._ceiling <= self._belief.quantile(0.5):
            return "generator"
        return "steps" if len(self._steps) >= steps else None

    def knee(self, ended: Ended) -> Knee[S]:
        held, missed = self._rates("held"), self._rates("missed")
        low, high = self._interval()
        # Beyond what was tried the belief rests on nothing that was seen.
        at_least = min(low, max(held)) if held else None
        below = max(high, min(missed)) if missed else None
        both = at_least is not None and below is not None
        rate = float(np.clip(self._belief.quantile(0.5), at_least, below)) if both else None
        return Knee(rate, at_least, below, ended, tuple(self._steps))

    def _rates(self, outcome: Outcome) -> list[float]:
        return [step.rate for step in self._steps if step.outcome == outcome]

    def _interval(self) -> tuple[float, float]:
        tail = (1 - CONFIDENCE) / 2
        return self._belief.quantile(tail), self._belief.quantile(1 - tail)


class _Belief:
    """How likely the knee lies at each load."""

    def __init__(self, lowest: float, highest: float) -> None:
        self._knees: NDArray[np.float64] = np.arange(np.log(lowest), np.log(highest), GRID)
        self._log_odds = np.tile(np.log(PRIOR), (len(self._knees), 1))
        self._sum_up()

    def learn(self, rate: float, held: bool) -> None:
        far = (self._knees[:, None] - np.log(rate)) / SPREADS
        curve = (1 + np.tanh(far)) / 2
        chance = LUCK + (1 - LUCK - HICCUP) * curve
        self._log_odds += np.log(chance if held else 1 - chance)
        self._sum_up()

    def _sum_up(self) -> None:
        below = np.exp(self._log_odds - self._log_odds.max()).sum(axis=1).cumsum()
        self._below = below / below[-1]

    def quantile(self, share: float) -> float:
        """The load below which the knee lies with this probability."""
        return float(np.exp(np.interp(share, self._below, self._knees)))
