"""How a front door splits a pool's load among the sites.

A plan (`FleetView.plan`) says it for each class. Where there is none, or none for a pool: local first.
"""

from __future__ import annotations

from serving.fleet import Class
from serving.router.view import FleetView, Pool


def shares(view: FleetView, pool: Pool, class_: Class) -> dict[str, float]:
    """The share of `pool`'s load in `class_` that each of its sites gets, by site name; they sum to 1.

    A site with share 0 is a last resort: it is asked when no site with a share is healthy, and on retries.
    """
    sites = [site.name for site in view.sites_of(pool)]
    # While this site drains, the others answer what they can.
    leaving = view.local.name if view.transition.draining and len(sites) > 1 else None
    planned = {site: share for site, share in view.plan.get((pool, class_), {}).items() if site in sites}
    if total := sum(share for site, share in planned.items() if site != leaving):
        return {site: 0.0 if site == leaving else planned.get(site, 0.0) / total for site in sites}
    if view.local.name in sites and not leaving:
        return {site: float(site == view.local.name) for site in sites}
    others = [site for site in sites if site != leaving]
    return {site: 1 / len(others) if site in others else 0.0 for site in sites}
