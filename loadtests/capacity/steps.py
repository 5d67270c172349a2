"""Single steps of a search: short runs of the engine, and what became of them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from math import inf
from pathlib import Path
from typing import NoReturn

from loadtests.campaign import Campaign
from loadtests.capacity.loads import Load
from loadtests.engine import Targets, run_campaign
from loadtests.knee import Outcome, Step, Stop
from loadtests.results import Judged, Result
from models.errors import HeadendError, UsageError

RECOVERY_S = 60.0
"""A fleet that a step has overloaded gets so long to answer again before the search is given up."""
_PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class LoadStep(Step):
    """One step, in the figures that a record and a chart need."""

    reason: str
    """Why it did not hold, or says nothing; empty when it held."""
    judged: tuple[Judged, ...]
    sent: int
    p50_ms: float
    p99_ms: float
    """Response times of what was answered rightly."""
    concurrency: float
    """Mean requests in flight that were answered rightly in the end (Little's law)."""
    hardware: str

    @property
    def strain(self) -> float:
        """The objective nearest to its limit, or furthest beyond: value over limit; infinite if unknown."""
        return max((_strain(each) for each in self.judged), default=0.0)

    @classmethod
    def of(cls, rate: float, result: Result) -> LoadStep:
        """What `result` says of `rate`."""
        outcome, reason = _outcome(result)
        response = result.histogram("response")
        return cls(
            rate=rate,
            outcome=outcome,
            reason=reason,
            judged=tuple(result.judged),
            sent=result.sent,
            p50_ms=response.percentile_ms(50),
            p99_ms=response.percentile_ms(99),
            concurrency=response.count / result.judged_s * response.mean_ms / 1e3 if response.count else 0.0,
            hardware=result.hardware,
        )


def _outcome(result: Result) -> tuple[Outcome, str]:
    if result.verdict == "held":
        return "held", ""
    if result.verdict == "missed":
        return "missed", "; ".join(_missed(result.judged))
    problems = result.generator.problems or [f"the limit `{result.ended_by}` ended the step"]
    return "unknown", problems[0]


def _missed(judged: Iterable[Judged]) -> Iterable[str]:
    for each in judged:
        if not each.held:
            yield f"{each.objective} {_value(each, each.value)}, limit {_value(each, each.limit)}"


def _strain(judged: Judged) -> float:
    if judged.value is None:
        return inf
    value, limit = judged.value, judged.limit
    if judged.objective == "goodput":  # the only one that is wanted high
        value, limit = 1 - value, 1 - limit
    return value / limit if limit else inf if value > 0 else 0.0


def _value(judged: Judged, value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:,.0f} ms" if judged.unit == "ms" else f"{value:.2%}"


def _spent() -> UsageError:
    return UsageError("The campaign's limit `spend` is used up.", hint="Raise it.")


class Prober:
    """Runs the steps of one search; call it with a rate."""

    def __init__(
        self, load: Load, targets: Targets, folder: Path, step_s: float, workers: int, spend: float | None
    ) -> None:
        """`folder` gets a folder for each step; `spend` is what all steps together may cost."""
        self._load, self._targets, self._folder = load, targets, folder
        self._step_s, self._workers, self.spend_left = step_s, workers, spend
        self._numbers = count(1)
        self.interrupted = False
        self.failure: HeadendError | None = None
        """Why the search was given up."""

    def __call__(self, rate: float) -> LoadStep:
        """Offer `rate` for one step. Raises `Stop` when there can be no more steps."""
        if self.spend_left is not None and self.spend_left <= 0:
            self._give_up(_spent())
        number = next(self._numbers)
        # A seed of its own, or a repeated step would repeat the chance of the first.
        seed = self._load.declared.seed + number
        campaign = self._load.step(rate, self._step_s, seed=seed, spend=self.spend_left)
        try:
            result = self._run(campaign, self._folder / f"{number:02d}", is_first=number == 1)
        except KeyboardInterrupt:
            self.interrupted = True
            raise Stop from None
        except HeadendError as error:
            if number == 1:
                raise
            self._give_up(error)
        self._pay(result)
        if result.ended_by == "interrupt":
            self.interrupted = True
            raise Stop
        if result.ended_by == "spend":
            self._give_up(_spent())
        return LoadStep.of(rate, result)

    def _run(self, campaign: Campaign, out: Path, *, is_first: bool) -> Result:
        patience = time.monotonic() + (0 if is_first else RECOVERY_S)
        while True:
            try:
                return run_campaign(
                    campaign, self._targets, out, workers=self._workers, view=False, report=False
                )
            except UsageError:
                if time.monotonic() > patience:
                    raise
                time.sleep(_PAUSE_S)

    def _give_up(self, error: HeadendError) -> NoReturn:
        self.failure = error
        raise Stop from error

    def _pay(self, result: Result) -> None:
        if self.spend_left is not None:
            prices = self._load.declared.limits.price_per_1000
            pools = {work.name: work.pool for work in self._load.works}
            # The warm-up is paid for but not in the series.
            judged = result.judged_s / result.seconds if result.seconds else 1
            for one in result.series:
                self.spend_left -= one.sent / max(judged, 1e-9) * prices.get(pools[one.work], 0) / 1e3
