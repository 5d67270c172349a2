"""Runs a campaign: the parent of the generator's processes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import psutil

from loadtests.bench.machine import Conditions, Watch
from loadtests.campaign import Campaign
from loadtests.engine import checks, files, health
from loadtests.engine.happenings import Happenings
from loadtests.engine.messages import Vitals
from loadtests.engine.processes import Generator
from loadtests.engine.targets import Targets
from loadtests.engine.triton_samples import TritonSamples
from loadtests.engine.view import REFRESH_S, Seen, View, opened
from loadtests.results import Result
from loadtests.tally import Tally
from loadtests.verdict import judge
from models.console import err

INTERRUPT = "interrupt"
_STOP_GRACE_S = 10.0
"""A stopped generator that has not reported after so long is taken for dead."""
_OVERDUE_S = 60.0
"""Likewise one that has not reported so long after its last client must have given up."""


def run_campaign(
    campaign: Campaign,
    targets: Targets,
    out: Path,
    *,
    workers: int = 1,
    web: bool = False,
    view: bool = True,
    report: bool = True,
    on_begin: Callable[[float], None] | None = None,
) -> Result:
    """Run `campaign` against `targets`; leave the run's files in the folder `out`, and return its result.

    `workers` processes generate the load. `web` opens locust's page on a free port of 127.0.0.1. `view`
    shows progress on standard error. `report` writes `report.html` and its pictures, which takes seconds.
    `on_begin` is called when the start is agreed on, with its time on the monotonic clock.

    An interrupt (SIGINT, SIGTERM) ends the run early: the result is returned with `complete` false and
    `ended_by` `interrupt`; a second one, or one before anything was sent, raises `KeyboardInterrupt`. Raises
    `UsageError` before anything is sent when a target does not answer, `out` cannot be written, or the
    campaign asks for what the targets do not have.
    """
    checks.against(campaign, targets)
    files.prepare(out)
    generator = Generator(campaign, targets.doors, workers=workers, web=web, log=out / files.LOG)
    run = _Run(campaign, targets, on_begin)
    with _interrupts() as interrupts, generator, run, closing(opened(err, view)) as shown:
        run.attend(generator, shown, interrupts)
    result = judge(run.result(out.absolute().name, workers, generator.dead))
    files.write(out, campaign, run.tally, result)
    if report:
        from loadtests.report import write  # brings matplotlib along

        write(out)
    return result


@dataclass
class _Interrupts:
    """Set by the signals; the second one breaks off."""

    asked: bool = False

    def __call__(self, number: int, frame: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def _interrupts() -> Iterator[_Interrupts]:
    """SIGINT and SIGTERM ask for an early end, where signals can be caught (the main thread)."""
    found = _Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return
    before = {number: signal.signal(number, found) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Run:
    """One run from the parent's side; a context manager that ends what goes on beside the load."""

    def __init__(
        self, campaign: Campaign, targets: Targets, on_begin: Callable[[float], None] | None
    ) -> None:
        self._campaign, self._targets, self._seen = campaign, targets, Seen(campaign)
        self._on_begin = on_begin
        self.tally = Tally(campaign)
        self._vitals: list[Vitals] = []
        self._ends: list[tuple[str, float]] = []
        self._happenings: Happenings | None = None
        self._triton: TritonSamples | None = None
        self._machine = Watch.start()
        self._conditions: Conditions | None = None
        self._stop_asked = self._latest = float("inf")
        self._interrupted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._triton is not None:
            self._triton.finish()
        if self._happenings is not None:
            self._happenings.hurry()
            self._happenings.join()

    def attend(self, generator: Generator, view: View, interrupts: _Interrupts) -> None:
        """Hear the generator to its end, and wait for the events that are under way."""
        while not generator.over:
            view.show(self._seen)
            if interrupts.asked and not self._interrupted:
                if self._seen.begin is None:
                    raise KeyboardInterrupt
                self._interrupted = True
                self._stop(generator, "interrupted; collecting what there is …")
            elif generator.dead and self._stop_asked == float("inf"):
                self._stop(generator, "a worker died; collecting what there is …")
            if message := generator.next(REFRESH_S / 2):
                self._hear(message)
            if time.monotonic() > min(self._stop_asked + _STOP_GRACE_S, self._latest):
                generator.give_up()
        self._conditions = self._machine.stop()
        if self._triton is not None:
            self._triton.finish()
        while self._happenings is not None and not self._happenings.over:
            if interrupts.asked or self._ended_by(generator.dead) != "time":
                self._happenings.hurry()
            self._seen.note = "all answered; waiting for events to end …"
            view.show(self._seen)
            time.sleep(REFRESH_S / 2)
        self._seen.note = "over"
        view.show(self._seen)

    def _stop(self, generator: Generator, note: str) -> None:
        self._seen.note, self._stop_asked = note, time.monotonic()
        generator.stop()

    def _hear(self, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if kind == "started":
            self._begin(message["at"])
        elif kind == "progress":
            self._seen.hear(message)
        elif kind == "web":
            err.print(f"locust's page: {message['url']}")
        elif kind == "done":
            self.tally.add_dump(message["tally"])
            self._vitals.append(Vitals(**message["vitals"]))
            self._ends.append((message["ended_by"], message["seconds"]))

    def _begin(self, begin: float) -> None:
        self._seen.begin, self._seen.note = begin, ""
        if self._on_begin is not None:
            self._on_begin(begin)
        self._machine = Watch.start()
        longest = max(work.timeout_s for work in self._campaign.workload)
        self._latest = begin + self._campaign.seconds + longest + _OVERDUE_S
        if self._targets.fleet is not None:
            self._triton = TritonSamples(self._targets.metrics_ports, begin, self.tally.width_s)
            self._triton.start()
            self._happenings = Happenings(
                self._campaign, self._targets.fleet, begin, self._seen.events.append
            )
            self._happenings.start()

    def _ended_by(self, dead: Sequence[str]) -> str:
        if self._interrupted:
            return INTERRUPT
        if dead:
            return "worker"
        # `stop` unasked comes from locust's page.
        found = {reason for reason, _ in self._ends} - {"time"}
        return {"stop": INTERRUPT}.get(first := min(found, default="time"), first)

    def result(self, name: str, workers: int, dead: Sequence[str]) -> Result:
        """All that was found, not judged yet."""
        machine = self._conditions or self._machine.stop()
        begin = time.monotonic() if self._seen.begin is None else self._seen.begin
        ended_by = self._ended_by(dead)
        fleet = self._targets.fleet
        return Result(
            run=name,
            campaign=self._campaign,
            targets=dict(self._targets.doors),
            fleet=fleet.model_dump(mode="json", exclude_none=True) if fleet else None,
            hardware=f"{machine.cores} × {machine.cpu}, {psutil.virtual_memory().total / 2**30:.0f} GiB",
            headend=version("headend"),
            started_at=datetime.fromtimestamp(time.time() + begin - time.monotonic(), UTC).isoformat(),
            seconds=max((seconds for _, seconds in self._ends), default=0.0),
            complete=ended_by == "time",
            ended_by=ended_by,
            series=self.tally.series(),
            slices=self.tally.slices(),
            errors=self.tally.errors(),
            events=sorted(self._seen.events, key=lambda event: event.at_s),
            server=self._triton.finish() if self._triton else [],
            generator=health.examine(self._campaign, workers, self._vitals, machine, dead),
        )
