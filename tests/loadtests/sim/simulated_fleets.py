"""Small fleets and campaigns for the simulator's tests. Work goes to the model `cls` and the app `review`."""

from typing import Any

from loadtests.campaign import Campaign
from loadtests.results import Result, total
from loadtests.sim.run import simulate
from loadtests.sim.topology import Topology

CLS, REVIEW = "ppocr-cls", "review"


def exponential(mean_ms: float) -> dict[str, Any]:
    return {"kind": "exponential", "mean_ms": mean_ms}


def constant(mean_ms: float) -> dict[str, Any]:
    return {"kind": "constant", "mean_ms": mean_ms}


def topology(
    sites: int | dict[str, Any] = 1, *, pools: dict[str, Any] | None = None, **more: Any
) -> Topology:
    """Sites as declared, or so many alike ones called s0, s1 … By default `cls` takes 10 ms, exponential."""
    return Topology.model_validate(
        {
            "topology": "made",
            "pools": pools or {CLS: {"service": {1: exponential(10)}}},
            "sites": {f"s{number}": {} for number in range(sites)} if isinstance(sites, int) else sites,
            **more,
        }
    )


def campaign(rate: float, seconds: float = 60, *, kind: str = "poisson", **more: Any) -> Campaign:
    """Requests for `cls` at all doors alike."""
    work = {"name": "cls", "model": CLS, "client": "http", "input": "text-lines", "class": "live"}
    return Campaign.model_validate(
        {
            "campaign": "made",
            "title": "made for a test",
            "seconds": seconds,
            "workload": [work],
            "arrivals": [{"kind": kind, "rate": rate}],
            "limits": {"in_flight": 100_000},
            **more,
        }
    )


def run(load: Campaign, fleet: Topology, policy: str = "local-first") -> Result:
    """By default under the live routers' code without a plan, where what goes where is certain."""
    return simulate(load, fleet, policy).result


def failed(result: Result) -> int:
    return result.sent - total(result.series, "ok")


def answered_by(result: Result, door: str) -> dict[str, int]:
    """Right answers to one door's requests by site."""
    found: dict[str, int] = {}
    for one in result.series:
        if one.door == door and one.right:
            found[one.site] = found.get(one.site, 0) + one.right
    return found
