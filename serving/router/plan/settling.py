"""What keeps shares calm: no big move at once, and a little for every site that may answer.

The plan follows what clients bring and what sites can do, neither of which the plan moves: there is no loop
to swing in, however old the telemetry. What is here bounds what a wrong measurement can do within a second;
that nothing moves for little is in `answer.WORTH_MOVING`.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

MOST_MOVED = 0.5
"""Of a door's load, in one tick."""
PROBED = 0.001
"""Of a door's load, shared by all sites that may answer beside those that the plan chose: a way that nobody
takes is not measured, and Envoy has no connections to it."""
TRIED = 0.01
"""Of a door's load, shared by all sites that are ready and of which nothing has been measured yet: a site
that no clients come to would never be asked."""
LOOKED_AGAIN = 0.005
"""Of a door's load at most, shared by all sites that answer seldom, the door's own included: a site that a
few slow executions have made look bad would never be asked again. It is less where they are far slower, so
that looking makes requests no more than this share longer on average."""

Row = Mapping[str, float]


def probed(row: Row, others: Row) -> dict[str, float]:
    """`row` with a little of it spread like `others`, over sites that may answer."""
    total = sum(others.values())
    if not total:
        return dict(row)
    return {
        site: (1 - PROBED) * row.get(site, 0.0) + PROBED * others.get(site, 0.0) / total
        for site in dict.fromkeys([*row, *others])
    }


def tried(row: Row, others: Set[str]) -> dict[str, float]:
    """`row` with a few requests for each of `others`, of which nothing is known but that they are ready."""
    if not (row and others):
        return dict(row)
    kept = {site: (1 - TRIED) * share for site, share in row.items()}
    return {**kept, **dict.fromkeys(sorted(others), TRIED / len(others))}


def settle(target: Row, before: Row | None, stale: Set[str]) -> dict[str, float]:
    """The shares of this tick: `target`, or on the way there from `before`; they sum to 1.

    Sites that are not in `target` go at once. A stale site gets no more than it had.
    """
    kept = {site: before.get(site, 0.0) for site in target} if before else {}
    rest = sum(kept.values())
    if not rest:
        return dict(target)
    kept = {site: share / rest for site, share in kept.items()}
    wanted = _no_more_for(stale, target, kept)
    moved = sum(abs(wanted[site] - kept[site]) for site in wanted) / 2
    step = min(1.0, MOST_MOVED / moved) if moved else 1.0
    return {site: kept[site] + step * (wanted[site] - kept[site]) for site in wanted}


def _no_more_for(stale: Set[str], target: Row, kept: Row) -> dict[str, float]:
    """`target` with no more for stale sites than they had; what is over goes to the others like the rest."""
    capped = {site: min(share, kept[site]) if site in stale else share for site, share in target.items()}
    fresh = sum(share for site, share in capped.items() if site not in stale)
    over = 1 - sum(capped.values())
    if over <= 0 or not fresh:
        return dict(target)
    return {site: share if site in stale else share * (1 + over / fresh) for site, share in capped.items()}
