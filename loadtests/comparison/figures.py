"""The figures that are compared, as measured and as resampled."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from loadtests import stretches
from loadtests.campaign import Campaign
from loadtests.results import Result, Slice
from serving.fleet import Class

Floats = npt.NDArray[np.float64]
Figure = Literal["p50", "p90", "p99", "mean", "errors", "goodput", "throughput"]
FIGURES: tuple[Figure, ...] = get_args(Figure)
MORE_IS_BETTER: frozenset[Figure] = frozenset({"goodput", "throughput"})
PERCENTS: dict[Figure, float] = {"p50": 50, "p90": 90, "p99": 99}
CHUNK = 500
"""Resamples worked on at once."""


@dataclass(frozen=True)
class Measured:
    """One run's figures, of one class or of all."""

    sent: int
    failed: int
    values: dict[Figure, float]
    """Milliseconds, shares, right answers a second; without what nothing was measured for."""


@dataclass(frozen=True)
class Sliced:
    """What one run counted in each stretch after its warm-up."""

    latencies: Floats
    """Right answers: shape [stretches, `stretches.BINS`]."""
    sent: Floats
    right: Floats
    within: Floats
    """Right, and within the p99 objective."""


def measured(result: Result, class_: Class | None) -> Measured:
    """From the histograms and counts of the whole run."""
    series = [one for one in result.series if class_ in (None, one.class_)]
    latencies = result.histogram("response", lambda one: class_ in (None, one.class_))
    sent, right = sum(one.sent for one in series), sum(one.right for one in series)
    values: dict[Figure, float] = {}
    if right:
        values |= {figure: latencies.percentile_ms(percent) for figure, percent in PERCENTS.items()}
        values |= {"mean": latencies.mean_ms, "throughput": right / result.judged_s}
    if sent:
        values |= {"errors": (sent - right) / sent, "goodput": sum(one.within for one in series) / sent}
    return Measured(sent, sent - right, values)


def sliced(result: Result, class_: Class | None) -> Sliced:
    """From the slices: rebuilt, so good for the spread of figures, not for the figures themselves."""
    campaign = result.campaign
    width_s = result.slices[0].seconds
    first = math.ceil(campaign.warm_up_s / width_s - 1e-6)
    number = max(1, math.ceil(campaign.seconds / width_s - 1e-6) - first)
    latencies = np.zeros((number, stretches.BINS))
    sent, right, within = np.zeros((3, number))
    groups: defaultdict[tuple[int, Class], list[Slice]] = defaultdict(list)
    for one in result.slices:
        place = min(number - 1, round(one.at_s / width_s) - first)
        if place >= 0 and class_ in (None, one.class_):
            groups[place, one.class_].append(one)
    for (place, each), slices in groups.items():
        counted = stretches.counts(slices)
        latencies[place] += counted
        sent[place] += sum(one.sent for one in slices)
        right[place] += sum(one.right for one in slices)
        within[place] += counted[: _bins_within(campaign, each)].sum()
    return Sliced(latencies, sent, right, within)


def _bins_within(campaign: Campaign, class_: Class) -> int:
    objective = campaign.objective_ms(class_)
    if objective is None:
        return stretches.BINS
    return int(np.searchsorted(stretches.EDGES_MS, objective, "right"))


def resampled(of: Sliced, weights: Floats, random: np.random.Generator | None) -> dict[Figure, Floats]:
    """Logarithms of all figures when each stretch counts `weights` [resamples, stretches] times.

    Failures get the noise of a Poisson count from `random` on top: a few of them are no exact measure of
    their rate, and resampling none gives none for ever.
    """
    sent = weights @ of.sent
    failed = weights @ (of.sent - of.right)
    found: dict[Figure, Floats] = {
        "errors": np.log((failed + 1 if random is None else random.gamma(failed + 1)) / (sent + 1))
    }
    with np.errstate(divide="ignore", invalid="ignore"):
        found["goodput"] = np.log(weights @ of.within / sent)
        found["throughput"] = np.log(weights @ of.right)
        for figure in (*PERCENTS, "mean"):
            found[figure] = np.log(_chunked(_latency(figure), of.latencies, weights))
    return found


def _latency(figure: Figure) -> Callable[[Floats], Floats]:
    if figure == "mean":
        return stretches.mean_ms
    percent = PERCENTS[figure]
    return lambda counted: stretches.percentile_ms(counted, percent)


def _chunked(figure: Callable[[Floats], Floats], latencies: Floats, weights: Floats) -> Floats:
    parts = [figure(weights[begin : begin + CHUNK] @ latencies) for begin in range(0, len(weights), CHUNK)]
    return np.concatenate(parts)
