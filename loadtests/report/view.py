"""A result arranged for drawing: time in stretches that can say something, sites that have a colour."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from loadtests import arrivals, stretches
from loadtests.histogram import Histogram
from loadtests.results import Result, Slice
from models.errors import HeadendError
from serving.fleet import Class

Floats = npt.NDArray[np.float64]
CLASSES: tuple[Class, ...] = ("live", "interactive", "batch")
COLOURED = 6
"""More lines than this cannot be told apart; the sites with fewer answers are drawn as one."""
OTHERS = "other sites"
ENOUGH = 40
"""Requests that a point of a line of percentiles stands for, on average over all lines."""
FEWEST = 12
"""Points that a line has nevertheless, however few requests there are."""


@dataclass(frozen=True)
class Latencies:
    """Response times over the stretches, milliseconds; NaN where nothing was answered rightly."""

    p50: Floats
    p99: Floats

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return bool(np.isnan(self.p99).all())


@dataclass(frozen=True)
class Curve:
    """Latencies by nines: at 2, what 99% of the requests did not exceed; as far as there are requests."""

    nines: Floats
    ms: Floats


class Stretches:
    """A run's time, cut evenly; the last stretch ends with the run."""

    def __init__(self, width_s: float, end_s: float) -> None:
        self.width_s = width_s
        self.number = max(1, math.ceil(end_s / width_s - 1e-9))
        begins = np.arange(self.number) * width_s
        self.edges: Floats = np.append(begins, max(end_s, begins[-1] + 1e-3))
        self.middles: Floats = (self.edges[1:] + self.edges[:-1]) / 2

    def place(self, at_s: float) -> int:
        """Number of the stretch in which a moment lies."""
        return min(self.number - 1, int(at_s / self.width_s + 1e-6))


class View:
    """What charts read of one result."""

    def __init__(self, result: Result) -> None:
        self.result = result
        self.end_s = min(result.seconds, result.campaign.seconds)
        width_s = result.slices[0].seconds if result.slices else 1.0
        self.fine = Stretches(width_s, self.end_s)
        """For counts: as the run was sliced."""
        sent = sum(one.sent for one in result.slices)
        lines = max(1, len(self.classes) * len(self.sites))
        wanted = math.ceil(ENOUGH * lines * self.fine.number / sent) if sent else 1
        self.coarse = Stretches(width_s * max(1, min(wanted, self.fine.number // FEWEST)), self.end_s)
        """For percentiles."""

    @cached_property
    def classes(self) -> list[Class]:
        """Those that were asked for."""
        sent = {one.class_ for one in self.result.slices}
        return [each for each in CLASSES if each in sent]

    @cached_property
    def answering(self) -> list[str]:
        """Sites that answered: those of the campaign's events, then by answers. Empty: a site not known."""
        answers: Counter[str] = Counter()
        for one in self.result.slices:
            answers[one.site] += one.sent if one.site else one.right
        stirred = {event.site for event in self.result.campaign.events}
        known = [site for site, count in answers.most_common() if count]
        return sorted(known, key=lambda site: site not in stirred)

    @cached_property
    def sites(self) -> list[str]:
        """Sites with a colour of their own, in order; `OTHERS` stands for all the rest."""
        if len(self.answering) <= COLOURED:
            return sorted(self.answering)
        return [*sorted(self.answering[: COLOURED - 1]), OTHERS]

    def shown(self, site: str) -> str:
        """How a site is drawn: by itself, or as one of the others."""
        return site if site in self.sites else OTHERS

    def rate(self, count: Callable[[Slice], int]) -> Floats:
        """Sum of `count` over all slices, a second, by fine stretch."""
        found: Floats = np.zeros(self.fine.number)
        for one in self.result.slices:
            found[self.fine.place(one.at_s)] += count(one)
        rates: Floats = found / np.diff(self.fine.edges)
        return rates

    @cached_property
    def planned(self) -> Floats | None:
        """Mean rate that the campaign asks for, by fine stretch."""
        try:
            rates = [
                np.mean([arrivals.mean_rate(self.result.campaign, at) for at in np.linspace(a, b, 5)[:-1]])
                for a, b in pairwise(self.fine.edges)
            ]
        except HeadendError:
            # A trace that this installation does not have.
            return None
        return np.array(rates)

    def latencies(self, class_: Class, site: str) -> Latencies:
        """Of one class, answered by one of `sites`, by coarse stretch."""
        return self._latencies.get((class_, site), Latencies(*np.full((2, self.coarse.number), np.nan)))

    @cached_property
    def _latencies(self) -> dict[tuple[Class, str], Latencies]:
        groups: defaultdict[tuple[Class, str], defaultdict[int, list[Slice]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for one in self.result.slices:
            if one.right:
                groups[one.class_, self.shown(one.site)][self.coarse.place(one.at_s)].append(one)
        return {key: self._over_time(group) for key, group in groups.items()}

    def _over_time(self, group: dict[int, list[Slice]]) -> Latencies:
        found = np.full((2, self.coarse.number), np.nan)
        for number, slices in group.items():
            found[:, number] = _percentiles(slices)
        return Latencies(*found)

    @cached_property
    def curves(self) -> dict[Class, tuple[Curve, Curve]]:
        """Percentiles of response and service times of each class that was answered rightly."""
        found: dict[Class, tuple[Curve, Curve]] = {}
        for class_ in self.classes:
            here = [one for one in self.result.series if one.class_ == class_ and one.right]
            if here:
                response, service = (
                    _curve(Histogram.sum(Histogram.decode(text) for text in texts))
                    for texts in zip(*((one.response, one.service) for one in here), strict=True)
                )
                found[class_] = response, service
        return found


def _curve(histogram: Histogram) -> Curve:
    nines = np.linspace(0.05, max(math.log10(histogram.count), 0.31), 60)
    return Curve(nines, np.array([histogram.percentile_ms(100 * (1 - 10**-nine)) for nine in nines]))


def _percentiles(slices: Sequence[Slice]) -> tuple[float, float]:
    if len(slices) == 1:
        return slices[0].p50_ms, slices[0].p99_ms
    counted = stretches.counts(slices)
    return float(stretches.percentile_ms(counted, 50)), float(stretches.percentile_ms(counted, 99))
