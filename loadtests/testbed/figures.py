"""What a cell's single requests say: latencies under each policy, and what a fault cost."""

from __future__ import annotations

import csv
import gzip
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from loadtests.engine.files import REQUESTS
from loadtests.testbed.intervals import Ratio, ratio
from loadtests.testbed.load import stretches
from loadtests.testbed.scenario import Cell, Fault, Policy, Scenario, Stream
from models.schema import Strict
from serving.fleet import Class

WINDOW_S = 1.0
"""Over so long a fault's p99 is taken: it is over when all later windows are within the objective."""
AFTER_S = 20.0
"""So long after a fault's end the site that comes back is watched."""


class Figures(Strict):
    """One policy in one cell, one class."""

    cell: str
    policy: Policy | None
    class_: Class | Literal["all"]
    requests: int
    failed: int
    mean_ms: float
    """From the intended start, likewise below; what failed counts with its client's time limit, or a policy
    that loses what is slow would look fast."""
    p50_ms: float
    p99_ms: float
    goodput: float
    """Share of the requests that were answered rightly within the class's objective."""
    of_capacity: float
    """Such answers a second, over what all sites of the scenario can answer."""
    attempts: float
    """Attempts of front doors per request."""
    most_attempts: int
    """At a single request."""
    mean_to_plan: Ratio | None = None
    """Mean over that of headend's own plan in the same rounds."""
    p99_to_plan: Ratio | None = None


class Cost(Strict):
    """What one fault cost. Times count from its begin, and belong to requests by their intended start."""

    cell: str
    fault: str
    there_before: float
    """Share of the answers until then that came from where it struck: what was at stake."""
    requests: int
    """While it lasted and `AFTER_S` longer, at front doors that were there to take them."""
    failed: int
    """Of these: each could have been asked again elsewhere."""
    examples: dict[str, int]
    """Outcomes of the failed."""
    recovered_s: float
    """From then on every window's p99 was within the objective, until the fault ended."""
    slowest_ms: float
    p99_before_ms: float
    p99_during_ms: float
    """Of the requests that came while it lasted."""
    healed_s: float | None
    """Likewise from the fault's end on; None: it has no end of its own."""


@dataclass(frozen=True)
class Request:
    """One request of the sample."""

    class_: Class
    door: str
    site: str
    intended: float
    ended: float
    outcome: str
    attempts: int

    @property
    def ms(self) -> float:
        """Response time, milliseconds."""
        return (self.ended - self.intended) * 1e3

    @property
    def is_right(self) -> bool:
        """Answered, and rightly."""
        return self.outcome == "ok"


def read(folder: Path) -> list[Request]:
    """A run's single requests by intended start; a sample when there are more than the engine keeps."""
    text = gzip.decompress((folder / REQUESTS).read_bytes()).decode()
    return [
        Request(
            class_=cast("Class", row["class_"]),
            door=row["door"],
            site=row["site"],
            intended=float(row["intended"]),
            ended=float(row["ended"]),
            outcome=row["outcome"],
            attempts=int(row["attempts"]),
        )
        for row in csv.DictReader(io.StringIO(text))
    ]


def by_policy(scenario: Scenario, cell: Cell, requests: Sequence[Request]) -> list[Figures]:
    """A row for each policy and class, and one for all classes; the start of each stretch is left out."""
    turns = stretches(cell)
    counted: defaultdict[tuple[Policy | None, Class | Literal["all"]], list[list[Request]]]
    counted = defaultdict(lambda: [[] for _ in range(cell.rounds)])
    several = len(scenario.traffic) > 1
    for one in requests:
        number = min(int(one.intended / (cell.seconds + cell.calm_s)), len(turns) - 1)
        if one.intended - turns[number].begin >= cell.warm_up_s:
            for class_ in (one.class_, "all") if several else (one.class_,):
                turn = number // max(1, len(cell.policies))
                counted[turns[number].policy, class_][turn].append(one)
    return [
        _figures(scenario, cell, key, rounds, counted.get(("plan", key[1])))
        for key, rounds in sorted(counted.items(), key=lambda item: str(item[0]))
    ]


def _figures(
    scenario: Scenario,
    cell: Cell,
    key: tuple[Policy | None, Class | Literal["all"]],
    rounds: Sequence[Sequence[Request]],
    planned: Sequence[Sequence[Request]] | None,
) -> Figures:
    policy, class_ = key
    streams = {stream.class_: stream for stream in scenario.traffic}
    times = [_times(streams, some) for some in rounds]
    took, requests = np.concatenate(times), [one for some in rounds for one in some]
    good = sum(one.is_right and one.ms <= streams[one.class_].p99_ms for one in requests)
    seconds = (cell.seconds - cell.warm_up_s) * cell.rounds
    theirs = [_times(streams, some) for some in planned] if planned and policy != "plan" else None
    return Figures(
        cell=cell.name,
        policy=policy,
        class_=class_,
        requests=len(requests),
        failed=sum(not one.is_right for one in requests),
        mean_ms=float(took.mean()),
        p50_ms=percentile(took, 50),
        p99_ms=percentile(took, 99),
        goodput=good / len(requests),
        of_capacity=good / seconds / scenario.most(list(scenario.sites)),
        attempts=sum(one.attempts for one in requests) / len(requests),
        most_attempts=max(one.attempts for one in requests),
        mean_to_plan=ratio(times, theirs, None) if theirs else None,
        p99_to_plan=ratio(times, theirs, 99) if theirs else None,
    )


def _times(streams: Mapping[Class, Stream], requests: Sequence[Request]) -> npt.NDArray[np.float64]:
    return np.array([one.ms if one.is_right else streams[one.class_].timeout_s * 1e3 for one in requests])


def percentile(values: npt.NDArray[np.float64], percent: float) -> float:
    """0 when there are none."""
    return float(np.percentile(values, percent)) if len(values) else 0.0


def cost(scenario: Scenario, cell: Cell, fault: Fault, requests: Sequence[Request]) -> Cost:
    """What `fault` cost the requests that came in where they could be taken."""
    objective = {stream.class_: stream.p99_ms for stream in scenario.traffic}
    reachable = [one for one in requests if not (_takes_the_door(fault) and fault.strikes(one.door))]
    end = min(fault.at_s + (fault.for_s or cell.seconds), cell.seconds)
    touched = [one for one in reachable if fault.at_s <= one.intended < end + AFTER_S]
    failed = [one for one in touched if not one.is_right]
    before = [one.ms for one in reachable if cell.warm_up_s <= one.intended < fault.at_s and one.is_right]
    during = [one.ms for one in touched if one.intended < end and one.is_right]
    outcomes = [one.outcome for one in failed]
    answered = [fault.strikes(one.site) for one in requests if one.intended < fault.at_s and one.is_right]
    return Cost(
        cell=cell.name,
        fault=fault.words,
        there_before=sum(answered) / max(1, len(answered)),
        requests=len(touched),
        failed=len(failed),
        examples={outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))},
        recovered_s=_over(touched, objective, fault.at_s, end),
        slowest_ms=max((one.ms for one in touched if one.is_right), default=0.0),
        p99_before_ms=percentile(np.array(before), 99),
        p99_during_ms=percentile(np.array(during), 99),
        healed_s=None if fault.for_s is None else _over(touched, objective, end, end + AFTER_S),
    )


def _takes_the_door(fault: Fault) -> bool:
    """Whether clients at the site itself find nobody: no fleet can help them."""
    return fault.part == "envoy"


def _over(requests: Sequence[Request], objective: dict[Class, float], begin: float, end: float) -> float:
    """Seconds from `begin` after which every window is within the objective.

    One slow request of a window that holds fewer than a hundred is not its 99th percentile.
    """
    last = 0.0
    for number in range(int((end - begin) / WINDOW_S)):
        start = begin + number * WINDOW_S
        window = [one for one in requests if start <= one.intended < start + WINDOW_S]
        slow = sum(not one.is_right or one.ms > objective[one.class_] for one in window)
        if slow > max(1.0, 0.01 * len(window)):
            last = (number + 1) * WINDOW_S
    return last
