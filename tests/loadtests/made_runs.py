"""Results as the engine leaves them: made-up answers to a campaign's real schedule, counted by `Tally`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from loadtests.arrivals import Start, schedule
from loadtests.campaign import Campaign
from loadtests.results import Generator, Happened, Result, ServerSample
from loadtests.tally import Record, Tally
from loadtests.verdict import judge

Answer = Callable[[Start, np.random.Generator], Record]
WELL = Generator(
    workers=1, cpu_share=0.31, lag_p99_ms=1.2, slip_p50_ms=0.1, slip_p99_ms=0.9, slip_max_ms=3.4,
    pressure=0.42, steal=0.0,
)  # fmt: skip


def record(start: Start, took_s: float, **other: Any) -> Record:
    """An answer to `start` that came after so long; right, from the door's own site."""
    given: dict[str, Any] = {
        "site": start.door, "outcome": "ok", "sent": start.at, "ended": start.at + took_s,
    } | other  # fmt: skip
    return Record(work=start.work.name, class_=start.work.class_, door=start.door, intended=start.at, **given)


def lognormal(median_s: float = 0.04, spread: float = 0.3) -> Answer:
    """All right and local."""
    return lambda start, random: record(start, float(median_s * np.exp(spread * random.normal())))


def made(
    campaign: Campaign,
    answer: Answer,
    *,
    doors: Sequence[str] = ("hub", "edge"),
    seed: int = 1,
    until: float | None = None,
    generator: Generator = WELL,
    events: Sequence[Happened] = (),
    server: Sequence[ServerSample] = (),
    fleet: Mapping[str, Any] | None = None,
    run: str = "run",
) -> Result:
    """The judged result of a run, interrupted at `until`."""
    random = np.random.default_rng(seed)
    tally = Tally(campaign)
    for start in schedule(campaign, doors):
        if until is None or start.at < until:
            tally.add(answer(start, random))
    return judge(
        Result(
            run=run,
            campaign=campaign,
            targets={door: f"127.0.0.1:{8080 + 10 * number}" for number, door in enumerate(doors)},
            fleet=None if fleet is None else dict(fleet),
            hardware="2 cores (Intel Xeon)",
            headend="0.1.0",
            started_at="2026-01-02T19:00:00+00:00",
            seconds=campaign.seconds if until is None else until,
            complete=until is None,
            ended_by="time" if until is None else "interrupt",
            series=tally.series(),
            slices=tally.slices(),
            errors=tally.errors(),
            events=list(events),
            server=list(server),
            generator=generator,
        )
    )


DIRECTION = {"name": "direction", "model": "ppocr-cls", "client": "triton-grpc", "input": "text-line"}


def small(rate: float = 50, seconds: float = 60, **other: Any) -> Campaign:
    """One work at one rate, with objectives that usually hold."""
    return Campaign.model_validate(
        {
            "campaign": "small",
            "title": "One model at one rate",
            "seconds": seconds,
            "workload": [DIRECTION],
            "arrivals": [{"kind": "poisson", "rate": rate}],
            "objectives": {
                "classes": {"interactive": {"p50_ms": 100, "p99_ms": 300}},
                "error_rate": 0.01,
                "goodput": 0.98,
            },
        }
        | other
    )
