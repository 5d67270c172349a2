"""What can be known to be wrong before anything is sent."""

from __future__ import annotations

import httpx

from loadtests import speakers
from loadtests.arrivals import schedule
from loadtests.campaign import Campaign
from loadtests.engine import happenings
from loadtests.engine.targets import Targets
from models.errors import UsageError

_TIMEOUT_S = 5.0
_NOT_READY = 503


def declaration(campaign: Campaign) -> None:
    """Raise `UsageError` when the campaign names an input or a trace that does not exist or fit."""
    speakers.check(campaign)
    sites = [arrival.site for arrival in campaign.arrivals if arrival.site]
    next(schedule(campaign, sites or ["any"]), None)


def against(campaign: Campaign, targets: Targets) -> None:
    """Raise `UsageError` when the targets cannot be what the campaign needs, or do not answer."""
    declaration(campaign)
    next(schedule(campaign, list(targets.doors)), None)
    if targets.fleet is not None:
        known = {*targets.fleet.apps, *targets.fleet.models}
        for work in campaign.workload:
            if work.pool not in known:
                raise UsageError(
                    f"Work `{work.name}` asks {work.pool}, which fleet {targets.fleet.fleet} does not serve.",
                    hint=f"It serves: {', '.join(sorted(known))}.",
                )
    for site, address in targets.doors.items():
        _answers(site, address)
    happenings.check(campaign, targets.fleet)


def _answers(site: str, address: str) -> None:
    where = f"The front door at {address}" if site == address else f"The front door of {site} at {address}"
    try:
        status = httpx.get(f"http://{address}/readyz", timeout=_TIMEOUT_S, trust_env=False).status_code
    except httpx.HTTPError as error:
        raise UsageError(
            f"{where} does not answer: {error or type(error).__name__}.",
            hint="Start the fleet (headend up), or give another with -f or --target.",
        ) from error
    if status == _NOT_READY:
        raise UsageError(
            f"{where} says that it cannot answer for everything yet (HTTP 503 at /readyz).",
            hint="See: headend status",
        )
