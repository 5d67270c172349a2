"""What Envoy's files hold of what is measured, changed only where it has changed noticeably."""

from __future__ import annotations

from collections.abc import Mapping

from serving.router.telemetry.observed import Observed
from serving.router.telemetry.summary import PoolSummary
from serving.router.view import Pace

_NOTICEABLE = 0.1
"""Of the value before: each change is a file written and read, and measurements are no more exact."""


def paces(pools: Mapping[str, PoolSummary], before: Mapping[str, Pace]) -> dict[str, Pace]:
    """How fast the local site is at each of its pools of which that is known.

    One that has had nothing to do for seconds may be faster than when it was slow: were requests refused for
    what it took then, it would answer none, and never be measured again.
    """
    found = {}
    for key, pool in pools.items():
        if pool.service_ms and pool.capacity:
            is_measured = pool.answered > 0 or pool.peak > 0
            now = Pace(pool.service_ms if is_measured else None, 1000 / pool.capacity)
            old = before.get(key)
            found[key] = old if old and _is_alike(now, old) else now
    return found


def round_trips(observed: Mapping[str, Observed], before: Mapping[str, float]) -> dict[str, float]:
    """Milliseconds to each other site whose distance is known."""
    known = {site: seen.rtt_s * 1000 for site, seen in observed.items() if seen.rtt_s is not None}
    return {
        site: before[site] if site in before and _same(rtt, before[site], 1.0) else round(rtt, 1)
        for site, rtt in known.items()
    }


def _is_alike(now: Pace, old: Pace) -> bool:
    return _same(now.service_ms, old.service_ms) and _same(now.per_request_ms, old.per_request_ms)


def _same(now: float | None, old: float | None, slack: float = 0.0) -> bool:
    if now is None or old is None:
        return now is old
    return abs(now - old) <= slack + _NOTICEABLE * old
