"""What a roll-out has to do, from what is served and what is wanted."""

from __future__ import annotations

from serving.site.lifecycle import fetch
from serving.site.plan import FleetPlan, SitePlan
from serving.site.rollout.history import Revision
from serving.site.rollout.machine import SiteChange


def changed_models(before: Revision, after: Revision, site: str) -> list[str]:
    """Models that the site serves before and after, in another version or another way."""
    if site not in before.fleet.sites or site not in after.fleet.sites:
        return []
    both = set(before.fleet.models_at(site)) & set(after.fleet.models_at(site))
    return sorted(
        model
        for model in both
        if before.bundles.get(model) != after.bundles.get(model)
        or before.fleet.models[model].at_servers() != after.fleet.models[model].at_servers()
    )


def _change_of(before: Revision, after: Revision, site: SitePlan) -> SiteChange:
    changed = changed_models(before, after, site.site)
    bundles = fetch(before.fleet, {model: before.bundles[model] for model in changed})
    return SiteChange(
        site.site,
        "change" if site.site in before.fleet.sites and site.keep else "start",
        models=tuple(changed),
        restarts=tuple(part for part in site.restart if part in ("triton", "serve", "envoy")),
        with_states=tuple(model for model in changed if bundles[model].card.serving.sequences),
        withdraws=tuple(_withdrawn(before, after, site.site)),
    )


def _withdrawn(before: Revision, after: Revision, site: str) -> list[str]:
    """Models and apps that the site serves before and not after."""
    return sorted(_served(before, site) - _served(after, site))


def _served(revision: Revision, site: str) -> set[str]:
    fleet = revision.fleet
    return {*fleet.models_at(site), *fleet.apps_at(site)} if site in fleet.sites else set()


def changes_of(before: Revision, after: Revision, plan: FleetPlan) -> list[SiteChange]:
    """What changes at which site; sites that stay as they are are left out."""
    found = [_change_of(before, after, site) for site in plan.sites if site.changes]
    return [*found, *(SiteChange(site, "stop") for site in plan.retire)]
