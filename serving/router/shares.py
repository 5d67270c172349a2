"""How a front door splits a pool's load among the sites.

This is the one place that decides it. Today: local first. A load-aware plan replaces the body of `shares`
(and gives the view what it needs to know); nothing else in the router knows how shares come about.
"""

from __future__ import annotations

from serving.router.view import FleetView, Pool


def shares(view: FleetView, pool: Pool) -> dict[str, float]:
    """The share of `pool`'s load that each of its sites gets, by site name; they sum to 1.

    A site with share 0 is a last resort: it is asked when no site with a share is healthy, and on retries.
    """
    sites = [site.name for site in view.sites_of(pool)]
    if view.local.name in sites:
        return {site: float(site == view.local.name) for site in sites}
    return {site: 1 / len(sites) for site in sites}
