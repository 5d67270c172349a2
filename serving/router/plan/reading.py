"""From what an agent has observed to the plan's problem.

A site that has not been heard of for a while keeps its last figures, which fade towards what is declared of
it (its capacity record), and is marked: it goes on getting its load, but no more. A site of which nothing is
known keeps what its own clients bring; from others it gets a few requests once it says that it is ready.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from serving.fleet import CLASSES, Balancing, Fleet, may_answer
from serving.router.plan.members import Figures, member
from serving.router.plan.problem import Floats, PoolProblem, Problem
from serving.router.telemetry.observed import Observed
from serving.router.telemetry.summary import PoolSummary
from serving.router.view import Pool

FRESH_S = 5.0
"""A summary comes twice a second; after so many seconds without one, a site is stale."""
FADE_S = 10.0
"""By then half of what a stale site's capacity was more, or less, than declared is gone."""
UNKNOWN_RTT_S = 0.05
"""Assumed between sites that have not measured each other: rather too far than too near."""
_NEVER = Observed()


def declared_capacities(fleet: Fleet) -> dict[tuple[str, Pool], float]:
    """Requests a second by site and pool, from the capacity records that the fleet names; read once, as they
    are files. Of several kinds of requests the dearest counts. Raises `DeclarationError`."""
    found: dict[tuple[str, Pool], float] = {}
    for site in fleet.sites:
        record = fleet.capacity_at(site)
        for name, works in (record.pools if record else {}).items():
            known = [rate for one in works.values() if (rate := one.per_second or one.at_least)]
            if known:
                found[site, Pool("app" if name in fleet.apps else "model", name)] = min(known)
    return found


def problem_of(
    fleet: Fleet,
    observed: Mapping[str, Observed],
    here: str,
    declared: Mapping[tuple[str, Pool], float],
) -> Problem:
    """The problem as the agent of site `here` knows it; sites that the fleet does not have are left out."""
    sites = tuple(sorted(fleet.sites))
    heard = {site: observed.get(site, _NEVER) for site in sites}
    uses: dict[Pool, Balancing] = {Pool("model", name): use.balancing for name, use in fleet.models.items()}
    uses |= {Pool("app", name): use.balancing for name, use in fleet.apps.items()}
    pools = (_pool(fleet, pool, uses[pool], heard, declared) for pool in sorted(uses))
    rtt, per_byte = _links(fleet, sites, heard, here)
    uplinks = [fleet.sites[site].uplink for site in sites]
    cost = np.array([uplink.cost_per_gb if uplink else 0.0 for uplink in uplinks])
    price = (cost[:, None] + cost) / 1e9 / fleet.economy.second_of_waiting
    return Problem(
        sites=sites,
        rtt_s=rtt,
        s_per_byte=per_byte,
        pools=tuple(pools),
        price_s_per_byte=price if cost.any() else None,
        uplink_bytes_per_s=np.array([uplink.mbit_s * 125e3 if uplink else np.inf for uplink in uplinks]),
    )


def _pool(
    fleet: Fleet,
    pool: Pool,
    balancing: Balancing,
    heard: Mapping[str, Observed],
    declared: Mapping[tuple[str, Pool], float],
) -> PoolProblem:
    key = f"{pool.kind}.{pool.name}"
    said: dict[str, PoolSummary | None] = {
        site: known.summary.pools.get(key) if known.summary else None for site, known in heard.items()
    }
    serving = {
        site: fleet.sites[site].tags
        for site in heard
        if pool.name in (fleet.models_at(site) if pool.kind == "model" else fleet.apps_at(site))
    }
    # `local-only` is not a matter of who may answer at all: see `Distances`.
    open_to_others = balancing.model_copy(update={"placement": "anywhere"})
    members, unmeasured, untried = [], set(), set()
    for site in may_answer(open_to_others, "", serving):
        summary = said[site]
        if summary is not None and not summary.ready:
            continue
        figures = Figures.of(summary, declared.get((site, pool)), heard[site].age_s - FRESH_S, FADE_S)
        if figures is not None:
            members.append(member(site, figures))
            continue
        unmeasured.add(site)
        if summary is not None and heard[site].age_s <= FRESH_S:
            untried.add(site)
    return PoolProblem(
        pool=pool,
        members=tuple(members),
        offered={
            class_: np.array([one.offered.get(class_, 0.0) if one else 0.0 for one in said.values()])
            for class_ in CLASSES
        },
        request_bytes=_mean_bytes((one.request_bytes, one.answered) for one in said.values() if one),
        response_bytes=_mean_bytes((one.response_bytes, one.answered) for one in said.values() if one),
        balancing=balancing,
        unmeasured=frozenset(unmeasured),
        untried=frozenset(untried),
    )


def _mean_bytes(seen: Iterable[tuple[float, float]]) -> float:
    """Mean over all sites that have seen any, by how many each answers."""
    known = [(size, rate + 1e-9) for size, rate in seen if size > 0]
    return sum(size * rate for size, rate in known) / sum(rate for _, rate in known) if known else 0.0


def _links(
    fleet: Fleet, sites: tuple[str, ...], heard: Mapping[str, Observed], here: str
) -> tuple[Floats, Floats]:
    """Round trips, and seconds for a byte. A way measured from one end only is taken to be so from both."""
    number = {site: place for place, site in enumerate(sites)}
    rtt = np.full((len(sites), len(sites)), np.nan)
    per_byte = np.full_like(rtt, np.nan)
    for site, known in heard.items():
        if known.rtt_s is not None:
            rtt[number[here], number[site]] = known.rtt_s
        if known.bytes_per_s:
            per_byte[number[here], number[site]] = 1 / known.bytes_per_s
        for other, link in known.summary.links.items() if known.summary else ():
            if other in number:
                rtt[number[site], number[other]] = link.rtt_ms / 1e3
                if link.mbit_s:
                    per_byte[number[site], number[other]] = 8e-6 / link.mbit_s
    for matrix, unknown in ((rtt, UNKNOWN_RTT_S), (per_byte, 0.0)):
        matrix[:] = np.where(np.isnan(matrix), matrix.T, matrix)
        matrix[~np.isfinite(matrix)] = unknown
    lines = [fleet.sites[site].uplink for site in sites]
    slowest = np.array([8e-6 / line.mbit_s if line else 0.0 for line in lines])
    per_byte = np.maximum(per_byte, np.maximum(slowest[:, None], slowest))
    for matrix in (rtt, per_byte):
        np.fill_diagonal(matrix, 0.0)
    return rtt, per_byte
