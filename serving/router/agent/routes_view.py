"""What an agent says of routes: shares, and what they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.schema import Strict
from serving.fleet import Class
from serving.router.telemetry.observed import Observed
from serving.router.telemetry.summary import PoolSummary

if TYPE_CHECKING:
    from serving.router.agent.agent import Agent


class SiteSeen(Strict):
    """One site as the agent knows it."""

    heard: bool
    """Whether it was heard of since the agent started."""
    age_s: float
    """Since its last summary came, or since the agent started."""
    stale: bool
    rtt_ms: float | None
    mbit_s: float | None
    """From the agent's site; None: not measured, or too fast to be measured."""
    pools: dict[str, PoolSummary]


class Routes(Strict):
    """All that one front door leads by."""

    fleet: str
    site: str
    plan_age_s: float | None
    """Since the plan was computed; None: not since the agent started."""
    shares: dict[str, dict[Class, dict[str, float]]]
    """By pool and class, each site's; a pool that is missing goes local first."""
    sites: dict[str, SiteSeen]


def routes_of(agent: Agent) -> Routes:
    """As it is now."""
    shares: dict[str, dict[Class, dict[str, float]]] = {}
    for (pool, class_), row in agent.writer.view.plan.items():
        shares.setdefault(f"{pool.kind}.{pool.name}", {})[class_] = dict(row)
    view = agent.config.view
    return Routes(
        fleet=view.fleet,
        site=view.local.name,
        plan_age_s=agent.plan_age_s,
        shares=shares,
        sites={site: _seen(observed) for site, observed in sorted(agent.observed().items())},
    )


def _seen(observed: Observed) -> SiteSeen:
    return SiteSeen(
        heard=observed.summary is not None,
        age_s=round(observed.age_s, 3),
        stale=observed.is_stale,
        rtt_ms=None if observed.rtt_s is None else round(observed.rtt_s * 1000, 3),
        mbit_s=None if observed.bytes_per_s is None else round(observed.bytes_per_s / 125_000, 3),
        pools=observed.summary.pools if observed.summary else {},
    )
