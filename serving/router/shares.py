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
    planned = {site: share for site, share in view.plan.get((pool, class_), {}).items() if site in sites}
    if total := sum(planned.values()):
        return {site: planned.get(site, 0.0) / total for site in sites}
    if view.local.name in sites:
        return {site: float(site == view.local.name) for site in sites}
    return {site: 1 / len(sites) for site in sites}
