"""When requests start, at which door and with what: a campaign's arrivals, drawn from its seed.

Rates that change with time are drawn by thinning (Lewis and Shedler, "Simulation of nonhomogeneous Poisson
processes by thinning", 1979), a stretch of the campaign after the other, so that a week costs no memory.
Nothing here knows when answers come: the load is open-loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import count
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from loadtests import campaign as schema
from loadtests import traces
from loadtests.campaign import Arrival, Campaign, Work
from models.errors import UsageError

Floats = npt.NDArray[np.float64]
STRETCH = 20_000
"""About so many starts are drawn at once."""
TRACE_RATE_S = 10.0
"""A recorded trace's rate is its mean over so many seconds around."""
_RATES = ("rate", "peak", "start", "end", "low", "high", "rate_scale")
_TIMES = ("from_s", "until_s", "at_s", "for_s", "day_s", "time_scale")


class Start(NamedTuple):
    """One request that is to start."""

    at: float
    """Seconds since the campaign's start."""
    door: str
    work: Work


def schedule(
    campaign: Campaign, doors: Sequence[str], *, worker: int = 0, workers: int = 1
) -> Iterator[Start]:
    """All starts of one of `workers` workers in order of time; all workers' together are one worker's.

    The campaign's seed decides everything: neither the doors' names nor the number of workers move a start.
    Raises `UsageError` when the campaign names a site that is not among `doors`, or an unknown trace.
    """
    known = {arrival.site for arrival in campaign.arrivals if arrival.site is not None}
    if missing := sorted(known - set(doors)):
        raise UsageError(
            f"campaign `{campaign.campaign}` sends to site `{missing[0]}`, which is not among the targets",
            hint=f"Targets: {', '.join(doors)}.",
        )
    if not doors:
        raise UsageError("there is no front door to send to")
    streams = [_Drawn(campaign, number, doors) for number in range(len(campaign.arrivals))]
    return _starts(campaign, streams, doors, worker, workers)


def mean_rate(campaign: Campaign, at: float) -> float:
    """Requests a second that are offered at `at` on average, over all doors."""
    shapes = (_shape(campaign, number) for number in range(len(campaign.arrivals)))
    return sum(float(shape.rate(np.array([at]))[0]) for shape in shapes)


def offered(campaign: Campaign, doors: Sequence[str], pool: str, at: float) -> list[float]:
    """Requests a second for `pool` that each door is offered at `at` on average."""
    drawn = [_Drawn(campaign, number, doors) for number in range(len(campaign.arrivals))]
    rates = np.zeros(len(doors))
    for stream in drawn:
        stream.add_rates(pool, at, rates)
    return [float(rate) for rate in rates]


def scaled(campaign: Campaign, factor: float, *, seconds: float | None = None) -> Campaign:
    """The campaign with every rate times `factor`.

    With `seconds` it lasts so long, and its shape (arrivals, events, warm-up) is squeezed or stretched with
    it; that alone changes no rate. Raises `ValueError` unless both are positive.
    """
    lasts = campaign.seconds if seconds is None else seconds
    if not (factor > 0 and lasts > 0):
        raise ValueError(f"cannot scale a campaign to {factor:g} times its rate and {lasts:g} seconds")
    squeeze = lasts / campaign.seconds
    return campaign.model_copy(
        update={
            "seconds": lasts,
            "warm_up_s": campaign.warm_up_s * squeeze,
            "arrivals": [_scale(arrival, factor, squeeze) for arrival in campaign.arrivals],
            "events": [event.model_copy(update={"at_s": event.at_s * squeeze}) for event in campaign.events],
        }
    )


def _scale(arrival: Arrival, factor: float, squeeze: float) -> Arrival:
    fields = arrival.model_dump()
    changed: dict[str, Any] = {name: fields[name] * factor for name in _RATES if name in fields}
    changed |= {name: fields[name] * squeeze for name in _TIMES if fields.get(name) is not None}
    if isinstance(arrival, schema.Step):
        changed["rates"] = [rate * factor for rate in arrival.rates]
    if isinstance(arrival, schema.Trace):
        # A trace in half the time is twice as dense: half of its arrivals keep the rate.
        changed["rate_scale"] *= squeeze
    return arrival.model_copy(update=changed)


class _Shape(Protocol):
    """Arrival times of one stream."""

    @property
    def peak(self) -> float:
        """Its highest mean rate."""
        ...

    def rate(self, at: Floats) -> Floats:
        """Mean rate at these times; 0 outside the stream's time."""
        ...

    def times(self, begin: float, end: float) -> Floats:
        """Arrivals from `begin` to before `end`, in order; stretches are asked for in order, each once."""
        ...


class _Regular:
    def __init__(self, begin: float, end: float, rate: float) -> None:
        self._begin, self._end, self.peak = begin, end, rate

    def rate(self, at: Floats) -> Floats:
        return np.where((at >= self._begin) & (at < self._end), self.peak, 0.0)

    def times(self, begin: float, end: float) -> Floats:
        first, last = (
            math.ceil((min(max(edge, self._begin), self._end) - self._begin) * self.peak)
            for edge in (begin, end)
        )
        times = self._begin + np.arange(first, last) / self.peak
        # The last bit of a division must not move an arrival into the neighbouring stretch.
        return np.clip(times, begin, np.nextafter(end, begin))


class _Random:
    """Poisson arrivals. The rate may jump, or turn from rising to falling, at `corners` only."""

    def __init__(
        self,
        begin: float,
        end: float,
        shape: Callable[[Floats], Floats],
        corners: Sequence[float] | Floats,
        random: np.random.Generator,
    ) -> None:
        self._begin, self._end, self._shape, self._random = begin, end, shape, random
        self._corners = np.sort(np.asarray(corners, np.float64))

    def rate(self, at: Floats) -> Floats:
        return np.where((at >= self._begin) & (at < self._end), self._shape(at), 0.0)

    @property
    def peak(self) -> float:
        return self._bound(self._begin, self._end)

    def _bound(self, begin: float, end: float) -> float:
        begin, end = max(begin, self._begin), min(end, self._end)
        if end <= begin:
            return 0.0
        between = slice(*np.searchsorted(self._corners, [begin, end]))
        return float(self._shape(np.array([begin, *self._corners[between], end])).max())

    def times(self, begin: float, end: float) -> Floats:
        bound = self._bound(begin, end)
        begin, end = max(begin, self._begin), min(end, self._end)
        number = self._random.poisson(bound * max(0.0, end - begin))
        times = begin + np.sort(self._random.random(number)) * (end - begin)
        return times[self._random.random(number) * bound < self.rate(times)]


class _Recorded:
    def __init__(self, begin: float, end: float, arrival: schema.Trace, random: np.random.Generator) -> None:
        self._offsets = traces.trace(arrival.trace)
        self._rate_scale, self._time_scale = arrival.rate_scale, arrival.time_scale
        self._begin, self._until = begin, end
        self._end = min(end, begin + float(self._offsets[-1]) * arrival.time_scale)
        self._random = random

    @property
    def peak(self) -> float:
        return float(self.rate(np.arange(self._begin, self._end, TRACE_RATE_S / 2)).max(initial=0))

    def rate(self, at: Floats) -> Floats:
        within = (at >= self._begin) & (at < self._end)
        low = np.maximum(at - TRACE_RATE_S / 2, self._begin)
        high = np.minimum(at + TRACE_RATE_S / 2, self._end)
        first, last = (
            np.searchsorted(self._offsets, (edge - self._begin) / self._time_scale) for edge in (low, high)
        )
        return np.where(within, (last - first) * self._rate_scale / np.where(within, high - low, 1), 0.0)

    def times(self, begin: float, end: float) -> Floats:
        return self._times[slice(*np.searchsorted(self._times, [begin, end]))]

    @cached_property
    def _times(self) -> Floats:
        offsets, whole = self._offsets, math.floor(self._rate_scale)
        copies = whole + (self._random.random(len(offsets)) < self._rate_scale - whole)
        # Copies spread over the time to the next arrival: ten requests at one instant were never recorded.
        gaps = np.diff(offsets, append=offsets[-1] + offsets[-1] / len(offsets))
        spread = self._random.random(int(copies.sum()))
        spread[(np.cumsum(copies) - copies)[copies > 0]] = 0
        times = np.sort(np.repeat(offsets, copies) + spread * np.repeat(gaps, copies))
        times = self._begin + times * self._time_scale
        return times[times < self._until]


class _AtOnce:
    """A stream whose arrivals are all drawn at once: however the campaign is cut into stretches."""

    def __init__(self, whole: _Shape, begin: float, end: float) -> None:
        self._whole, self._begin, self._end = whole, begin, end

    @property
    def peak(self) -> float:
        return self._whole.peak

    def rate(self, at: Floats) -> Floats:
        return self._whole.rate(at)

    def times(self, begin: float, end: float) -> Floats:
        return self._times[slice(*np.searchsorted(self._times, [begin, end]))]

    @cached_property
    def _times(self) -> Floats:
        return self._whole.times(self._begin, self._end)


class _Drawn:
    """One stream with its doors and works. Times, doors and works come from random streams of their own."""

    def __init__(self, campaign: Campaign, number: int, doors: Sequence[str]) -> None:
        arrival = campaign.arrivals[number]
        self.shape = _shape(campaign, number)
        self._doors = np.arange(len(doors)) if arrival.site is None else np.array([doors.index(arrival.site)])
        weights = np.array(
            [
                work.weight if arrival.work is None or work.name in arrival.work else 0
                for work in campaign.workload
            ]
        )
        self._works, self._shares = campaign.workload, weights / weights.sum()
        self._mix = np.cumsum(weights) / weights.sum()
        self._at_doors, self._of_works = (_generator(campaign, number, use) for use in (1, 2))

    def add_rates(self, pool: str, at: float, rates: Floats) -> None:
        """Add what the stream brings to each door for `pool` at `at`, requests a second, to `rates`."""
        share = sum(part for work, part in zip(self._works, self._shares, strict=True) if work.pool == pool)
        rates[self._doors] += share * self.shape.rate(np.array([at]))[0] / len(self._doors)

    def starts(self, begin: float, end: float) -> tuple[Floats, npt.NDArray[Any], npt.NDArray[Any]]:
        """Times, numbers of doors, numbers of works."""
        times = self.shape.times(begin, end)
        doors = self._doors[(self._at_doors.random(len(times)) * len(self._doors)).astype(np.intp)]
        return times, doors, np.searchsorted(self._mix, self._of_works.random(len(times)), side="right")


def _starts(
    campaign: Campaign, streams: Sequence[_Drawn], doors: Sequence[str], worker: int, workers: int
) -> Iterator[Start]:
    peak = sum(stream.shape.peak for stream in streams)
    width = min(campaign.seconds, STRETCH / peak if peak else campaign.seconds)
    works, before = campaign.workload, 0
    for number in count():
        begin, end = number * width, min((number + 1) * width, campaign.seconds)
        if begin >= end:
            return
        parts = [stream.starts(begin, end) for stream in streams]
        at, door, work = (np.concatenate(column) for column in zip(*parts, strict=True))
        mine = np.argsort(at, kind="stable")[(worker - before) % workers :: workers]
        before += len(at)
        yield from map(
            Start,
            at[mine].tolist(),
            map(doors.__getitem__, door[mine].tolist()),
            map(works.__getitem__, work[mine].tolist()),
        )


def _shape(campaign: Campaign, number: int) -> _Shape:
    arrival = campaign.arrivals[number]
    begin = arrival.from_s
    end = min(arrival.until_s or campaign.seconds, campaign.seconds)
    random = _generator(campaign, number, 0)
    match arrival:
        case schema.Constant():
            return _Regular(begin, end, arrival.rate)
        case schema.Trace():
            return _Recorded(begin, end, arrival, random)
        case _:
            drawn = _Random(begin, end, *_curve(arrival, begin, end), random)
            return drawn if arrival.seed is None else _AtOnce(drawn, begin, end)


def _curve(
    arrival: schema.Poisson | schema.Ramp | schema.Step | schema.Spike | schema.Day, begin: float, end: float
) -> tuple[Callable[[Floats], Floats], Sequence[float] | Floats]:
    """Rate by time, and its corners."""
    match arrival:
        case schema.Poisson(rate=rate):
            return lambda at: np.full_like(at, rate), ()
        case schema.Ramp(start=first, end=last):
            return lambda at: first + (last - first) * (at - begin) / (end - begin), ()
        case schema.Step(rates=rates):
            values, long = np.array(rates), (end - begin) / len(rates)
            return (
                lambda at: values[np.clip((at - begin) / long, 0, len(values) - 1).astype(np.intp)],
                begin + long * np.arange(len(rates)),
            )
        case schema.Spike():
            up, down = arrival.at_s, arrival.at_s + arrival.for_s
            return lambda at: np.where((at >= up) & (at < down), arrival.peak, arrival.rate), (up, down)
        case schema.Day():
            mean, swing, turn = (
                (arrival.low + arrival.high) / 2,
                (arrival.high - arrival.low) / 2,
                arrival.day_s,
            )
            return (
                lambda at: mean - swing * np.cos(2 * np.pi * (at - begin) / turn),
                np.arange(begin, end, turn / 2),
            )


def _generator(campaign: Campaign, number: int, use: int) -> np.random.Generator:
    """A random stream for one use by one of the campaign's arrivals."""
    seed = campaign.arrivals[number].seed
    key = (number, use) if seed is None else (seed, use, 1)
    return np.random.default_rng(np.random.SeedSequence(campaign.seed, spawn_key=key))
