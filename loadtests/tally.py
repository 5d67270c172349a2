"""Counts requests as they end, in one worker or in the simulator; tallies of several workers add up."""

from __future__ import annotations

import heapq
import random
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Self

import numpy as np

from loadtests.campaign import Campaign
from loadtests.histogram import Histogram
from loadtests.results import ErrorKind, Outcome, Series, Slice
from serving.fleet import Class

SLICES = 120
"""A run is drawn in about so many stretches, none shorter than a second."""
SAMPLE = 20_000
"""Single requests that are kept."""
EXAMPLE = 500
"""Characters of an error's example."""


@dataclass(frozen=True, slots=True)
class Record:
    """One request. Times are seconds since the campaign's start."""

    work: str
    class_: Class
    door: str
    site: str
    intended: float
    sent: float
    ended: float
    outcome: Outcome
    attempts: int = 1
    detail: str = ""
    """What was wrong, in a sentence."""
    edits: int = 0
    characters: int = 0

    @property
    def response(self) -> float:
        """From the intended start."""
        return self.ended - self.intended

    @property
    def service(self) -> float:
        """From when it was really sent."""
        return self.ended - self.sent


SAMPLE_COLUMNS = [each.name for each in fields(Record)]
_row = attrgetter(*SAMPLE_COLUMNS)  # `astuple` copies deeply, which takes longer than all other counting


@dataclass
class _Way:
    """What `Series` counts."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    sums: Counter[str] = field(default_factory=Counter)
    response: Histogram = field(default_factory=Histogram)
    service: Histogram = field(default_factory=Histogram)


class Tally:
    """All counts of one run so far."""

    def __init__(self, campaign: Campaign) -> None:
        self.width_s = max(1.0, campaign.seconds / SLICES)
        self._campaign = campaign
        self._objective = {work.class_: campaign.objective_ms(work.class_) for work in campaign.workload}
        self._ways: dict[tuple[str, Class, str, str], _Way] = {}
        self._sent: Counter[tuple[int, Class, str, str]] = Counter()
        self._right: dict[tuple[int, Class, str, str], array[float]] = {}
        self._errors: dict[tuple[Outcome, str], ErrorKind] = {}
        self._sample: list[tuple[float, tuple[Any, ...]]] = []
        self._random = random.Random(campaign.seed)

    def add(self, record: Record) -> None:
        """Count one request."""
        number = int(record.intended / self.width_s)
        place = (number, record.class_, record.door, record.site)
        self._sent[place] += 1
        if record.outcome == "ok":
            self._right.setdefault(place, array("f")).append(record.response)
        else:
            self._count_error(
                ErrorKind(
                    outcome=record.outcome,
                    work=record.work,
                    count=1,
                    example=record.detail[:EXAMPLE],
                    first_at_s=record.intended,
                )
            )
        self._keep(self._random.random(), _row(record))
        if record.intended >= self._campaign.warm_up_s:
            self._judge(record)

    def _judge(self, record: Record) -> None:
        key = (record.work, record.class_, record.door, record.site)
        way = self._ways.get(key)
        if way is None:
            way = self._ways[key] = _Way()
        way.outcomes[record.outcome] += 1
        way.sums["attempts"] += record.attempts
        way.sums["edits"] += record.edits
        way.sums["characters"] += record.characters
        if record.outcome == "ok":
            objective = self._objective.get(record.class_)
            way.sums["within"] += objective is None or record.response * 1e3 <= objective
            way.response.record(record.response)
            way.service.record(record.service)

    def _count_error(self, error: ErrorKind) -> None:
        key = (error.outcome, error.work)
        known = self._errors.get(key)
        if known is None:
            self._errors[key] = error
            return
        first = min(known, error, key=lambda each: each.first_at_s)
        self._errors[key] = first.model_copy(update={"count": known.count + error.count})

    def _keep(self, priority: float, row: tuple[Any, ...]) -> None:
        """Of all requests those with the highest random priorities: a fair sample, whoever counted them."""
        if len(self._sample) < SAMPLE:
            heapq.heappush(self._sample, (priority, row))
        elif priority > self._sample[0][0]:
            heapq.heapreplace(self._sample, (priority, row))

    @property
    def sent(self) -> int:
        """Requests so far, warm-up included."""
        return self._sent.total()

    def series(self) -> list[Series]:
        """By work, door and answering site."""
        return [
            Series(
                work=work,
                class_=class_,
                door=door,
                site=site,
                outcomes=dict(way.outcomes),
                within=way.sums["within"],
                attempts=way.sums["attempts"],
                edits=way.sums["edits"],
                characters=way.sums["characters"],
                response=way.response.encode(),
                service=way.service.encode(),
            )
            for (work, class_, door, site), way in sorted(self._ways.items())
        ]

    def slices(self) -> list[Slice]:
        """By time, class, door and answering site."""
        return [self._slice(place) for place in sorted(self._sent)]

    def _slice(self, place: tuple[int, Class, str, str]) -> Slice:
        number, class_, door, site = place
        right = np.asarray(self._right.get(place, ()), np.float32)
        p50, p90, p99, most = np.percentile(right, [50, 90, 99, 100]) * 1e3 if len(right) else (0, 0, 0, 0)
        return Slice(
            at_s=number * self.width_s,
            seconds=self.width_s,
            class_=class_,
            door=door,
            site=site,
            sent=self._sent[place],
            right=len(right),
            p50_ms=p50,
            p90_ms=p90,
            p99_ms=p99,
            max_ms=most,
        )

    def errors(self) -> list[ErrorKind]:
        """Most frequent first."""
        return sorted(self._errors.values(), key=lambda each: -each.count)

    def sample(self) -> list[tuple[Any, ...]]:
        """Rows of `SAMPLE_COLUMNS` by intended start: all requests, or a fair sample of `SAMPLE`."""
        return sorted((row for _, row in self._sample), key=lambda row: row[SAMPLE_COLUMNS.index("intended")])

    def dump(self) -> dict[str, Any]:
        """Everything, as plain lists, text, numbers and bytes: what a worker sends."""
        return {
            "ways": [
                [list(key), dict(way.outcomes), dict(way.sums), way.response.encode(), way.service.encode()]
                for key, way in self._ways.items()
            ],
            "sent": [[list(place), count] for place, count in self._sent.items()],
            "right": [[list(place), values.tobytes()] for place, values in self._right.items()],
            "errors": [error.model_dump() for error in self._errors.values()],
            "sample": [[priority, list(row)] for priority, row in self._sample],
        }

    def add_dump(self, dump: Mapping[str, Any]) -> Self:
        """Count what another tally of the same campaign has counted; order does not matter."""
        for key, outcomes, sums, response, service in dump["ways"]:
            way = self._ways.setdefault(tuple(key), _Way())
            way.outcomes.update(outcomes)
            way.sums.update(sums)
            way.response.add(Histogram.decode(response))
            way.service.add(Histogram.decode(service))
        for place, count in dump["sent"]:
            self._sent[tuple(place)] += count
        for place, values in dump["right"]:
            self._right.setdefault(tuple(place), array("f")).frombytes(values)
        for error in dump["errors"]:
            self._count_error(ErrorKind.model_validate(error))
        for priority, row in dump["sample"]:
            self._keep(priority, tuple(row))
        return self
