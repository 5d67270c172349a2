"""What a roll-out has to do, from what is served and what is wanted."""

from __future__ import annotations

from serving.site.plan import FleetPlan
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
        or before.fleet.models[model] != after.fleet.models[model]
    )


def changes_of(before: Revision, after: Revision, plan: FleetPlan) -> list[SiteChange]:
    """What changes at which site; sites that stay as they are are left out."""
    found = [
        SiteChange(
            site.site,
            "change" if site.site in before.fleet.sites and site.keep else "start",
            tuple(changed_models(before, after, site.site)),
            tuple(part for part in site.restart if part in ("triton", "serve")),
        )
        for site in plan.sites
        if site.changes
    ]
    return [*found, *(SiteChange(site, "stop") for site in plan.retire)]
