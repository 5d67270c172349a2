"""Runs the cells of a scenario: load by the campaign engine, faults and policies by a clock beside it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from loadtests.engine import Targets, run_campaign
from loadtests.results import Result
from loadtests.testbed import faults, figures
from loadtests.testbed.bed import Tell, Testbed
from loadtests.testbed.figures import Cost, Figures
from loadtests.testbed.load import campaign, seconds, stretches, turns
from loadtests.testbed.policies import Switch
from loadtests.testbed.scenario import Cell, Fault, Scenario
from models.errors import HeadendError

_LONGEST_S = threading.TIMEOUT_MAX / 2
CALM_S = 3.0
"""Between two cells: what the last one left in queues is answered, and probes have found out who is back."""

WARM_UP_LOAD, WARM_UP_S = 0.2, 4.0


@dataclass
class Outcome:
    """What came of one cell."""

    cell: str
    figures: list[Figures]
    costs: list[Cost]
    problems: list[str]
    """Why the figures cannot be trusted; empty when they can."""
    pressure: float
    """Share of the time in which some task of the machine waited for a core."""


def run(bed: Testbed, cells: Sequence[Cell], folder: Path, tell: Tell) -> list[Outcome]:
    """Run the cells one after the other; each leaves the folder of its campaign's run in `folder`.

    An interrupt (SIGINT, SIGTERM) ends it: what is returned are the cells that were whole.
    """
    outcomes: list[Outcome] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tell("warming up")
    _warm_up(bed)
    for number, cell in enumerate(cells, 1):
        tell(f"cell {number} of {len(cells)}: {cell.name}, {seconds(cell):.0f} s")
        try:
            outcomes.append(_run(bed, cell, folder / cell.name))
            time.sleep(CALM_S)
        except KeyboardInterrupt:
            if len(outcomes) < number:
                rmtree(folder / cell.name, ignore_errors=True)
            break
    return outcomes


def _warm_up(bed: Testbed) -> None:
    """A few requests at every site: what none has answered yet is not measured, and others send it little."""
    cell = Cell(name="warm-up", load=WARM_UP_LOAD, seconds=WARM_UP_S)
    with TemporaryDirectory() as folder:
        out, targets = Path(folder, cell.name), Targets(bed.doors)
        if not run_campaign(campaign(bed.scenario, cell), targets, out, view=False).complete:
            raise KeyboardInterrupt


def _run(bed: Testbed, cell: Cell, folder: Path) -> Outcome:
    """Raises `KeyboardInterrupt` when it ended early."""
    with Switch(bed, cell) as switch, _Clock(_timeline(bed, cell, switch)) as clock:
        result = run_campaign(
            campaign(bed.scenario, cell), Targets(bed.doors), folder, view=False, on_begin=clock.start
        )
    if clock.failure is not None:
        raise clock.failure
    if not result.complete:
        raise KeyboardInterrupt
    return _outcome(bed.scenario, cell, result, folder)


def _outcome(scenario: Scenario, cell: Cell, result: Result, folder: Path) -> Outcome:
    requests = figures.read(folder)
    return Outcome(
        cell=cell.name,
        figures=figures.by_policy(scenario, cell, requests),
        costs=[figures.cost(scenario, cell, fault, requests) for fault in cell.faults],
        problems=result.generator.problems,
        pressure=result.generator.pressure,
    )


@dataclass(order=True)
class _Moment:
    at_s: float
    act: Callable[[], None] = field(compare=False)
    ends: bool = field(default=False, compare=False)
    """It ends a fault: done in any case."""


def _timeline(bed: Testbed, cell: Cell, switch: Switch) -> list[_Moment]:
    return sorted([*_switches(bed, cell, switch), *_breaks(bed, cell)])


def _switches(bed: Testbed, cell: Cell, switch: Switch) -> Iterator[_Moment]:
    """A policy for every stretch; where the ingress moves, each is told."""
    weights = turns(bed.scenario, cell)
    for stretch in stretches(cell):
        if stretch.policy is None:
            continue
        for number, ingress in enumerate(weights):
            at = stretch.begin + number * cell.seconds / len(weights)
            yield _Moment(at, partial(switch.to, stretch.policy, ingress))


def _breaks(bed: Testbed, cell: Cell) -> Iterator[_Moment]:
    """Every fault's begin and end."""
    for fault in cell.faults:
        held = ExitStack()
        yield _Moment(fault.at_s, partial(_break, bed, fault, held))
        yield _Moment(fault.at_s + (fault.for_s or _LONGEST_S), held.close, ends=True)


def _break(bed: Testbed, fault: Fault, held: ExitStack) -> None:
    held.callback(faults.begin(bed, fault))


class _Clock:
    """Does what is due in a thread of its own. At the end all faults are over, due or not."""

    def __init__(self, moments: Sequence[_Moment]) -> None:
        self._moments, self._over = moments, threading.Event()
        self._thread: threading.Thread | None = None
        self.failure: HeadendError | OSError | None = None
        """What kept it from doing all."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def start(self, begin: float) -> None:
        """`begin`: the campaign's start, monotonic clock."""
        self._thread = threading.Thread(target=self._run, args=(begin,))
        self._thread.start()

    def _run(self, begin: float) -> None:
        try:
            for moment in self._moments:
                early = self._over.wait(max(0.0, min(begin + moment.at_s - time.monotonic(), _LONGEST_S)))
                if not early or moment.ends:
                    moment.act()
        except (HeadendError, OSError) as error:
            self.failure = error
