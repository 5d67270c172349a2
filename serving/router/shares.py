"""How a front door splits a pool's load among the sites.

A plan (`FleetView.plan`) says it for each class. Where there is none, or none for a pool: local first.
"""

from __future__ import annotations

from serving.fleet import Class
from serving.router.view import FleetView, Pool

LONGEST_ROW = 32
"""Other sites with a share that a cluster lists at most, those with the largest shares: with hundreds of
sites, the rest of the shares is too small to be worth a connection and its probes."""
ALTERNATIVES = 4
"""Sites that a cluster lists at least, where the pool has as many: the nearest ones without a share are its
last resort. A request is not tried at more (see `serving.fleet.classes.ATTEMPTS`)."""


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


def kept(view: FleetView, pool: Pool, class_: Class) -> float:
    """The share of `pool`'s load in `class_` that stays here of what finds no server idle; what does stays in
    any case (`Threshold.stay_below`), and both together make up this site's share."""
    share = shares(view, pool, class_).get(view.local.name, 0.0)
    threshold = view.threshold(pool)
    return threshold.kept(share) if threshold else share


def away(view: FleetView, pool: Pool, class_: Class) -> tuple[dict[str, float], list[str]]:
    """How what leaves is split among the other sites (it sums to 1), and the last resort after them.

    Where no other site has a share, the nearest get what is too much here in equal parts.
    """
    others = {
        site: share
        for site, share in shares(view, pool, class_).items()
        if share > 0 and site != view.local.name
    }
    nearest = [site.name for site in view.nearest(pool)]
    if not others:
        others = dict.fromkeys(nearest[:ALTERNATIVES], 1.0)
    row = dict(sorted(others.items(), key=lambda each: (-each[1], each[0]))[:LONGEST_ROW])
    total = sum(row.values())
    spare = [site for site in nearest if site not in row]
    return {site: share / total for site, share in row.items()}, spare[: max(0, ALTERNATIVES - len(row))]
