"""What can be known to be wrong before anything is sent."""

from __future__ import annotations

import httpx

from loadtests import speakers
from loadtests.arrivals import schedule
from loadtests.campaign import Campaign
from loadtests.engine import happenings
from loadtests.engine.targets import Targets
from loadtests.speakers.asking import url_of
from models.errors import UsageError
from serving import credential, trust
from serving.fleet import CLASSES, Class, Fleet
from serving.identity import KeyStore

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
        _key_allows(campaign, targets.fleet)
    for site, address in targets.doors.items():
        _answers(site, address)
    happenings.check(campaign, targets.fleet)


def _answers(site: str, address: str) -> None:
    where = f"The front door at {address}" if site == address else f"The front door of {site} at {address}"
    try:
        with httpx.Client(
            base_url=url_of(address), timeout=_TIMEOUT_S, trust_env=False, verify=trust.client_context()
        ) as client:
            ready = client.get("/readyz").status_code
            asked = client.get("/v1/models", headers=credential.headers())
    except httpx.HTTPError as error:
        raise UsageError(
            f"{where} does not answer: {error or type(error).__name__}.",
            hint="Start the fleet (headend up), or give another with -f or --target.",
        ) from error
    if ready == _NOT_READY:
        raise UsageError(
            f"{where} says that it cannot answer for everything yet (HTTP 503 at /readyz).",
            hint="See: headend status",
        )
    if asked.status_code == httpx.codes.UNAUTHORIZED:
        given = "does not take the key" if credential.own_key() else "asks for a key, and there is none"
        raise UsageError(
            f"{where} {given} in {credential.VARIABLE}.",
            hint=f"headend keys create loadtest --class live; then: export {credential.VARIABLE}=hk_…",
        )


def _key_allows(campaign: Campaign, fleet: Fleet) -> None:
    """Where the key's record is kept on this machine: a front door would answer, but in a lower class."""
    key = KeyStore(fleet.fleet).of(credential.own_key() or "")
    if key is None:
        return
    if "infer" not in key.roles:
        raise UsageError(f"The key in {credential.VARIABLE} does not have the role `infer`.")
    urgent = max((work.class_ for work in campaign.workload), key=_urgency)
    if _urgency(urgent) > _urgency(key.highest_class):
        raise UsageError(
            f"The campaign asks in class `{urgent}`, the key in {credential.VARIABLE} allows "
            f"`{key.highest_class}` at most.",
            hint=f"Make another: headend keys create {key.tenant} --class {urgent}",
        )


def _urgency(class_: Class) -> int:
    return -CLASSES.index(class_)
