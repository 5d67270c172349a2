"""A cell as a campaign: which stretches there are, and what arrives in each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from loadtests import traces
from loadtests.campaign import Campaign
from loadtests.testbed.scenario import Cell, Policy, Scenario, Stream

TRACE = "azure-llm-2023-conv"


@dataclass(frozen=True)
class Stretch:
    """A part of the campaign under one policy."""

    policy: Policy | None
    turn: int
    """Number of its round."""
    begin: float
    """Seconds from the campaign's start."""


def stretches(cell: Cell) -> list[Stretch]:
    """All policies in turn, `rounds` times; each round begins with another one."""
    policies: list[Policy | None] = list(cell.policies) or [None]
    turns = [
        (policies[(number + turn) % len(policies)], turn)
        for turn in range(cell.rounds)
        for number in range(len(policies))
    ]
    long = cell.seconds + cell.calm_s
    return [Stretch(policy, turn, number * long) for number, (policy, turn) in enumerate(turns)]


def campaign(scenario: Scenario, cell: Cell) -> Campaign:
    """The cell as a campaign; every stretch has the same load, and all of one round the same arrivals."""
    arrivals = [arrival for stretch in stretches(cell) for arrival in _of_stretch(scenario, cell, stretch)]
    return Campaign.model_validate(
        {
            "campaign": f"{scenario.scenario}-{cell.name}",
            "title": scenario.title,
            "seconds": seconds(cell),
            "workload": [
                {
                    "name": work_name(stream),
                    "model": stream.model,
                    "client": stream.client,
                    "input": "recorded",
                    "class": stream.class_,
                    "timeout_s": stream.timeout_s,
                }
                for stream in scenario.traffic
            ],
            "arrivals": arrivals,
            "objectives": {
                "classes": {stream.class_: {"p99_ms": stream.p99_ms} for stream in scenario.traffic}
            },
        }
    )


def seconds(cell: Cell) -> float:
    """How long the cell takes."""
    return (cell.seconds + cell.calm_s) * len(stretches(cell))


def work_name(stream: Stream) -> str:
    """What a stream is called in the campaign."""
    return f"{stream.model}-{stream.class_}"


def _of_stretch(scenario: Scenario, cell: Cell, stretch: Stretch) -> list[dict[str, Any]]:
    streams = [
        one
        for stream, rate in zip(scenario.traffic, scenario.rates(cell), strict=True)
        for one in _arrivals(scenario, cell, stream, rate, stretch.begin)
    ]
    first = stretch.turn * len(streams)
    return [{**one, "seed": first + number} for number, one in enumerate(streams)]


def _arrivals(
    scenario: Scenario, cell: Cell, stream: Stream, rate: float, begin: float
) -> Iterator[dict[str, Any]]:
    places = turns(scenario, cell)
    width = cell.seconds / len(places)
    for number, weights in enumerate(places):
        for site, weight in weights.items():
            yield {
                "site": site,
                "work": [work_name(stream)],
                "from_s": begin + number * width,
                "until_s": begin + (number + 1) * width,
                **_shape(cell, rate * weight / sum(weights.values()), width),
            }


def turns(scenario: Scenario, cell: Cell) -> list[Mapping[str, float]]:
    """Weights of the front doors, one after the other: a moving ingress visits every site in each stretch."""
    weights = cell.ingress or dict.fromkeys(scenario.sites, 1.0)
    if not cell.moving:
        return [weights]
    sites, values = list(weights), list(weights.values())
    return [dict(zip(sites, values[-turn:] + values[:-turn], strict=True)) for turn in range(len(sites))]


def _shape(cell: Cell, rate: float, width: float) -> dict[str, Any]:
    if cell.arrivals == "poisson":
        return {"kind": "poisson", "rate": rate}
    return {"kind": "trace", "trace": TRACE, "rate_scale": traces.rate_scale(TRACE, rate, width)}
