"""From simulated requests to a `Tally`, many at a time: what `Tally.add` counts one by one, numpy counts in
blocks, so that counting costs no more than simulating."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from hdrh.histogram import HdrHistogram

from loadtests.campaign import Campaign
from loadtests.histogram import DIGITS, LONGEST_US
from loadtests.results import Outcome
from loadtests.tally import SAMPLE, Tally
from serving.fleet import Class

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
NUMBER_OF: dict[Outcome, int] = {outcome: number for number, outcome in enumerate(OUTCOMES)}
_OK = NUMBER_OF["ok"]
_CLASSES: tuple[Class, ...] = get_args(Class)
_WHY: dict[Outcome, str] = {
    "refused": "no site had room, or none was known to be up",
    "timeout": "the client gave up",
    "connection": "the front door was down",
    "not-sent": "too many were in flight already",
}
_COLUMNS = 5
_BLOCK = 1 << 18
_SUB_BUCKET_BITS = 11
"""Values below 2 to this are told apart exactly by HdrHistogram with three digits, larger ones to their first
so many bits."""
_VALUE_BITS = 32


class Counts:
    """All requests of one simulation. A way is a work, a door and an answering site."""

    def __init__(self, campaign: Campaign, sites: Sequence[str]) -> None:
        self._campaign, self._sites = campaign, list(sites)
        self._tally = Tally(campaign)
        self._works = len(campaign.workload)
        self._classes = np.array([_CLASSES.index(work.class_) for work in campaign.workload])
        self._objectives = np.array(
            [campaign.objective_ms(work.class_) or np.inf for work in campaign.workload]
        )
        self._random = np.random.default_rng(campaign.seed)
        self.total = 0
        """Requests whose end is known."""
        self._rows = array("d")
        self._outcomes: Counter[int] = Counter()
        self._attempts: Counter[int] = Counter()
        self._within: Counter[int] = Counter()
        self._values: list[tuple[Ints, Ints]] = []
        self._sent: Counter[int] = Counter()
        self._right: defaultdict[int, list[bytes]] = defaultdict(list)
        self._first: dict[int, float] = {}
        self._errors: Counter[int] = Counter()
        self._sample = np.empty((0, 1 + _COLUMNS))

    def add(
        self, work: int, door: int, site: int, outcome: Outcome, intended: float, ended: float, attempts: int
    ) -> None:
        """Count one request. `site` is -1 where nobody answered."""
        width = len(self._sites) + 1
        way = (work * width + door) * width + site + 1
        rows = self._rows
        rows.extend((way, NUMBER_OF[outcome], intended, ended, attempts))
        if len(rows) >= _BLOCK * _COLUMNS:
            self._flush()

    def tally(self) -> Tally:
        """Everything that was counted."""
        self._flush()
        return Tally(self._campaign).add_dump(self._dump())

    def _flush(self) -> None:
        if not self._rows:
            return
        rows = np.frombuffer(self._rows).reshape(-1, _COLUMNS)
        self.total += len(rows)
        way, code = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
        intended, response = rows[:, 2], rows[:, 3] - rows[:, 2]
        right = code == _OK
        self._judge(rows, way, code, response)
        self._place(way, intended, response, right)
        for number in np.unique(code[~right]).tolist():
            failed = code == number
            for work in np.unique(self._work_of(way[failed])).tolist():
                mine = failed & (self._work_of(way) == work)
                key = number * self._works + work
                self._errors[key] += int(mine.sum())
                self._first[key] = min(self._first.get(key, np.inf), float(intended[mine].min()))
        both = np.vstack([self._sample, np.column_stack([self._random.random(len(rows)), rows])])
        self._sample = both[np.argsort(-both[:, 0], kind="stable")[:SAMPLE]]
        self._rows = array("d")

    def _judge(self, rows: Floats, way: Ints, code: Ints, response: Floats) -> None:
        judged = rows[:, 2] >= self._campaign.warm_up_s
        way, code, response = way[judged], code[judged], response[judged]
        ways, inverse = np.unique(way, return_inverse=True)
        attempts = np.bincount(inverse, rows[judged, 4], len(ways))
        right = code == _OK
        good = right & (response * 1e3 <= self._objectives[self._work_of(way)])
        within = np.bincount(inverse, good, len(ways))
        self._attempts.update(dict(zip(ways.tolist(), attempts.astype(int).tolist(), strict=True)))
        self._within.update(dict(zip(ways.tolist(), within.astype(int).tolist(), strict=True)))
        self._outcomes.update(_counted(way * len(OUTCOMES) + code))
        microseconds = np.clip(np.rint(response[right] * 1e6), 1, LONGEST_US).astype(np.int64)
        bits = np.frexp(microseconds.astype(np.float64))[1]
        shift = np.maximum(0, bits - _SUB_BUCKET_BITS)
        values, counts = np.unique(
            (way[right] << _VALUE_BITS) | ((microseconds >> shift) << shift), return_counts=True
        )
        self._values.append((values, counts))

    def _place(self, way: Ints, intended: Floats, response: Floats, right: npt.NDArray[np.bool_]) -> None:
        width = len(self._sites) + 1
        number = (intended / self._tally.width_s).astype(np.int64)
        place = (number * len(_CLASSES) + self._classes[self._work_of(way)]) * width**2 + way % width**2
        self._sent.update(_counted(place))
        mine = place[right]
        order = np.argsort(mine, kind="stable")
        places, first = np.unique(mine[order], return_index=True)
        parts = np.split(response[right][order].astype(np.float32), first[1:])
        for one, values in zip(places.tolist(), parts, strict=False):
            self._right[one].append(values.tobytes())

    def _work_of(self, way: Ints) -> Ints:
        return way // (len(self._sites) + 1) ** 2

    def _ends(self, way: int) -> tuple[str, str]:
        """Names of a way's door and site."""
        door, site = divmod(way, len(self._sites) + 1)
        return self._sites[door % (len(self._sites) + 1)], self._sites[site - 1] if site else ""

    def _histograms(self) -> dict[int, str]:
        """Encoded response times by way."""
        found: dict[int, HdrHistogram] = {}
        values = np.concatenate([block for block, _ in self._values] or [np.empty(0, np.int64)])
        counts = np.concatenate([block for _, block in self._values] or [np.empty(0, np.int64)])
        keys, inverse = np.unique(values, return_inverse=True)
        sums = np.bincount(inverse, counts, len(keys)).astype(int)
        for key, count in zip(keys.tolist(), sums.tolist(), strict=True):
            way, value = key >> _VALUE_BITS, key & ((1 << _VALUE_BITS) - 1)
            if way not in found:
                found[way] = HdrHistogram(1, LONGEST_US, DIGITS)
            found[way].record_value(value, count)
        return {way: histogram.encode().decode("ascii") for way, histogram in found.items()}

    def _dump(self) -> dict[str, Any]:
        """As `Tally.dump` gives it."""
        works, width = self._campaign.workload, len(self._sites) + 1
        outcomes: defaultdict[int, dict[Outcome, int]] = defaultdict(dict)
        for key, count in self._outcomes.items():
            outcomes[key // len(OUTCOMES)][OUTCOMES[key % len(OUTCOMES)]] = count
        histograms, empty = self._histograms(), HdrHistogram(1, LONGEST_US, DIGITS).encode().decode("ascii")
        ways = []
        for way, counts in outcomes.items():
            work = works[way // width**2]
            times = histograms.get(way, empty)
            sums = {"attempts": self._attempts[way], "within": self._within[way]}
            ways.append([[work.name, work.class_, *self._ends(way)], counts, sums, times, times])
        return {
            "ways": ways,
            "sent": [[self._place_of(place), count] for place, count in self._sent.items()],
            "right": [[self._place_of(place), b"".join(parts)] for place, parts in self._right.items()],
            "errors": [self._error(key) for key in self._errors],
            "sample": [self._sampled(row) for row in self._sample.tolist()],
        }

    def _place_of(self, place: int) -> list[Any]:
        number, way = divmod(place, (len(self._sites) + 1) ** 2)
        number, class_ = divmod(number, len(_CLASSES))
        return [number, _CLASSES[class_], *self._ends(way)]

    def _error(self, key: int) -> dict[str, Any]:
        number, work = divmod(key, self._works)
        return {
            "outcome": OUTCOMES[number],
            "work": self._campaign.workload[work].name,
            "count": self._errors[key],
            "example": _WHY.get(OUTCOMES[number], ""),
            "first_at_s": self._first[key],
        }

    def _sampled(self, row: Sequence[float]) -> list[Any]:
        priority, way, number, intended, ended, attempts = row
        work = self._campaign.workload[int(way) // (len(self._sites) + 1) ** 2]
        outcome = OUTCOMES[int(number)]
        door, site = self._ends(int(way))
        why = _WHY.get(outcome, "")
        record = [work.name, work.class_, door, site, intended, intended, ended, outcome, int(attempts), why]
        return [priority, [*record, 0, 0]]


def _counted(keys: Ints) -> dict[int, int]:
    values, counts = np.unique(keys, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))
