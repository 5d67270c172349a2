"""The plan, its effect, and telemetry of that effect some seconds later: it settles.

A fluid model: what doors send is what their shares say, and executions take longer the busier a site is (its
cores are shared), so that what is measured depends on what was planned.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from made_problems import CLS, problem

from serving.router.plan import Member, Plan, plan

SITES = {"a": 1, "b": 2, "c": 4, "d": 8}
SLOWER = 0.3
"""By how much longer an execution takes at a site with all servers busy."""
STEP_AT, SETTLED_BY, END = 15, 45, 75
Loads = dict[str, float]


def test_each_echo_of_a_move_is_far_smaller_than_the_move() -> None:
    """What a plan changes is measured five seconds later, and changes the next a little, and so on."""
    shares, _ = run(delay=5, ingress=lambda second: {"a": 60.0, "b": 60.0, "c": 60.0, "d": 60.0})
    moves = np.abs(np.diff(shares, axis=0)).max(axis=(1, 2))
    first, echo, later = moves[:5].max(), moves[5:10].max(), moves[SETTLED_BY:].max()
    assert echo < 0.02 * first
    assert later < 1e-9


@pytest.mark.parametrize("delay", [1, 5])
@pytest.mark.parametrize("load", [0.8, 1.1])
def test_it_settles_after_a_step_however_old_the_telemetry(delay: int, load: float) -> None:
    total = load * 100 * sum(SITES.values()) / (1 + SLOWER)

    def ingress(second: int) -> Loads:
        hot = "d" if second < STEP_AT else "a"
        return {site: total * (0.7 if site == hot else 0.1) for site in SITES}

    shares, loads = run(delay, ingress)
    late = shares[SETTLED_BY:]
    assert np.abs(np.diff(late, axis=0)).max() < 0.03
    # No swing: the way that door `a`'s own share went is not much longer than from where to where.
    own = shares[STEP_AT:, 0, 0]
    assert np.abs(np.diff(own)).sum() <= abs(own[-1] - own[0]) + 0.25
    if load < 0.9:
        busy = loads[-1] / np.array([100 * servers / (1 + SLOWER) for servers in SITES.values()])
        assert busy.max() < 1


def run(delay: int, ingress: object) -> tuple[np.ndarray, np.ndarray]:
    """Shares (seconds, doors, sites) and loads (seconds, sites)."""
    assert callable(ingress)
    rows, told, brought, measured = [], [], [], []
    made: Plan | None = None
    for second in range(END):
        offered: Loads = ingress(second)
        row = _rows(made)
        load = np.array([offered[site] for site in SITES]) @ row
        rows.append(row)
        told.append(load)
        brought.append(offered)
        measured.append(_measured(load))
        then = max(0, second - delay)
        of = problem(measured[then], {"interactive": brought[then]}, rtt_ms=10)
        made = plan(of, made)
    return np.array(rows), np.array(told)


def _rows(made: Plan | None) -> np.ndarray:
    if made is None:
        return np.eye(len(SITES))
    shares = made.shares
    return np.array([[shares[door, CLS, "interactive"].get(site, 0.0) for site in SITES] for door in SITES])


def _measured(load: np.ndarray) -> Sequence[Member]:
    return [
        Member(site, servers, 0.01 * (1 + SLOWER * min(1.0, rate / (100 * servers))))
        for (site, servers), rate in zip(SITES.items(), load, strict=True)
    ]
