"""What plans send over sites' own lines, out and in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_problems import CLS, problem

from serving.fleet import CLASSES
from serving.router.plan import Member, Plan, Problem, plan
from serving.router.plan.lines import FULL_SHARE, LEAST_GUESTS, UPLINK_SHARE, Lines
from serving.router.plan.settling import PROBED
from serving.router.view import Pool

few = settings(max_examples=20, deadline=None)
NAMES = ("a", "b", "c", "d", "e", "f")
VAN_TAKES = UPLINK_SHARE * 1.25e6 / 2e5
"""Pictures of 200 kB a second over 10 Mbit/s."""


def outside_broadcast(load: float, *, request_bytes: float = 2e5, response_bytes: float = 1e3) -> Problem:
    """A van on a thin line where no clients are, at `load` times all capacity."""
    servers = {"hub": 4, "studio": 2, "van": 2}
    members = [Member(site, count, 0.15, cv2=0.25) for site, count in servers.items()]
    rate = load * sum(member.capacity for member in members) / 2
    thin = np.zeros((3, 3))
    thin[2, :2] = thin[:2, 2] = 8e-7
    return problem(
        members,
        {"interactive": {"hub": rate, "studio": rate}},
        rtts_ms={("hub", "van"): 30, ("studio", "van"): 30},
        request_bytes=request_bytes,
        response_bytes=response_bytes,
        s_per_byte=thin,
        uplink_bytes_per_s=np.array([np.inf, np.inf, 1.25e6]),
    )


@st.composite
def thin_fleets(draw: st.DrawFn) -> Problem:
    """Up to six unlike sites, each with a server, about half of them on thin lines."""
    names = NAMES[: draw(st.integers(2, len(NAMES)))]
    members = [
        Member(name, draw(st.integers(1, 8)), draw(st.floats(0.01, 0.2)), cv2=draw(st.floats(0, 2)))
        for name in names
    ]
    capacity = np.array([member.capacity for member in members])
    weights = np.array([draw(st.floats(0.01, 1)) for _ in names])
    brought = draw(st.floats(0.05, 0.8)) * capacity.sum() * weights / weights.sum()
    parts = draw(st.sampled_from(((0, 1, 0), (0.2, 0.5, 0.3))))
    sent, answered = draw(st.sampled_from(((2e5, 1e3), (1e3, 2e5), (1e5, 1e5))))
    carried = [draw(st.one_of(st.just(np.inf), st.floats(0.02, 0.6))) for _ in names]
    return problem(
        members,
        {
            class_: dict(zip(names, part * brought, strict=True))
            for class_, part in zip(CLASSES, parts, strict=True)
        },
        rtts_ms={(a, b): draw(st.floats(1, 60)) for a in names for b in names if a < b},
        request_bytes=sent,
        response_bytes=answered,
        s_per_byte=np.full((len(names), len(names)), 1e-8) * (1 - np.eye(len(names))),
        uplink_bytes_per_s=np.array(carried) * capacity * 2e5,
    )


def flows(of: Problem, made: Plan) -> Mapping[tuple[str, str], float]:
    """Requests a second of all pools and classes from each door to each other site."""
    found: dict[tuple[str, str], float] = {}
    for pool in of.pools:
        for door in of.sites:
            for class_, rates in pool.offered.items():
                rate = float(rates[of.number[door]])
                for site, share in made.shares[door, pool.pool, class_].items():
                    if site != door:
                        found[door, site] = found.get((door, site), 0.0) + rate * share
    return found


def guests(of: Problem, made: Plan, site: str) -> float:
    return sum(rate for (_, to), rate in flows(of, made).items() if to == site)


def assert_lines_have_room(of: Problem, made: Plan) -> None:
    """Beside what keeps ways known."""
    pool, limit = of.pools[0], of.uplink_bytes_per_s
    assert limit is not None
    out, into = np.zeros(len(limit)), np.zeros(len(limit))
    for (door, site), rate in flows(of, made).items():
        a, b = of.number[door], of.number[site]
        out[a] += rate * pool.request_bytes
        into[a] += rate * pool.response_bytes
        into[b] += rate * pool.request_bytes
        out[b] += rate * pool.response_bytes
    size = max(pool.request_bytes, pool.response_bytes)
    probes = 2 * PROBED * size * sum(float(rates.sum()) for rates in pool.offered.values())
    share = Lines(of).share(pool)
    assert UPLINK_SHARE <= share <= FULL_SHARE
    assert (np.maximum(out, into) <= (share + 4 * LEAST_GUESTS) * limit + probes).all()


def _one_site_is_far_too_small() -> Problem:
    """The others have room, but their lines have not."""
    return problem(
        [Member("a", 4, 0.125, cv2=0.0), Member("b", 1, 0.125, cv2=0.0), Member("c", 1, 0.1875, cv2=0.0)],
        {"interactive": {"a": 10.46, "b": 2.615, "c": 20.92}},
        rtt_ms=1.0,
        request_bytes=2e5,
        response_bytes=1e3,
        s_per_byte=np.full((3, 3), 1e-8) * (1 - np.eye(3)),
        uplink_bytes_per_s=np.array([1.6e6, 8e5, np.inf]),
    )


@few
@given(thin_fleets(), st.floats(0.8, 1.2))
@example(_one_site_is_far_too_small(), 1.0)
def test_no_line_carries_more_than_its_share(of: Problem, more: float) -> None:
    """Each site has servers of its own, so there is room beside lines; also in the next second."""
    made = plan(of)
    assert_lines_have_room(of, made)
    for row in made.shares.values():
        assert sum(row.values()) == pytest.approx(1)
    pool = of.pools[0]
    offered = sum(float(rates.sum()) for rates in pool.offered.values())
    assert float(made.pools[CLS].load.sum()) == pytest.approx(offered, rel=1e-4)
    rates = {class_: more * rates for class_, rates in pool.offered.items()}
    later = replace(of, pools=(replace(pool, offered=rates),))
    # Shares move by steps from those before, so this is about where they are going.
    assert_lines_have_room(later, plan(later, replace(made, shares={})))


@few
@given(thin_fleets())
def test_names_change_nothing(of: Problem) -> None:
    """The same fleet, its names in the opposite order."""
    new = dict(zip(of.sites, reversed(of.sites), strict=True))
    pool, limit = of.pools[0], of.uplink_bytes_per_s
    assert limit is not None
    renamed = replace(
        of,
        rtt_s=of.rtt_s[::-1, ::-1],
        uplink_bytes_per_s=limit[::-1],
        pools=(
            replace(
                pool,
                members=tuple(replace(member, site=new[member.site]) for member in reversed(pool.members)),
                offered={class_: rates[::-1] for class_, rates in pool.offered.items()},
            ),
        ),
    )
    before, after = plan(of), plan(renamed)
    for (door, _, class_), row in before.shares.items():
        other = after.shares[new[door], CLS, class_]
        for site, share in row.items():
            assert other.get(new[site], 0) == pytest.approx(share, abs=2e-3)


@pytest.mark.parametrize(("request_bytes", "response_bytes"), [(2e5, 1e3), (1e3, 2e5)])
def test_guests_come_as_their_line_carries_them(request_bytes: float, response_bytes: float) -> None:
    """0.7 of 1.25 MB/s is 4.375 requests or answers of 200 kB; the rest stays with the others."""
    of = outside_broadcast(0.7, request_bytes=request_bytes, response_bytes=response_bytes)
    made = plan(of)
    assert pytest.approx(4.375) == VAN_TAKES
    assert guests(of, made, "van") == pytest.approx(4.375, rel=2e-3)
    hub, studio, van = made.pools[CLS].load
    assert van == pytest.approx(4.375, rel=1e-3)
    assert hub + studio == pytest.approx(0.7 * 8 / 0.15 - 4.375, rel=1e-3)
    assert "its line carries no more from other sites" in "\n".join(made.explain("hub", CLS).sentences)


def test_a_line_is_filled_more_where_all_else_is_full() -> None:
    """At 85% the others bring 45.3 a second; they and the line take 46.25 at most."""
    of = outside_broadcast(0.85)
    assert guests(of, plan(of), "van") == pytest.approx(FULL_SHARE * 6.25, rel=2e-3)
    filled = [Lines(now).share(now.pools[0]) for now in map(outside_broadcast, np.arange(0.1, 1.5, 0.001))]
    assert filled[0] == filled[600] == UPLINK_SHARE
    assert filled[-1] == FULL_SHARE
    steps = np.diff(filled)
    assert steps.min() >= 0
    assert steps.max() < 0.003


def test_a_site_does_for_itself_what_it_can() -> None:
    """Clients at the van that its own servers can answer make no line fuller, however many they are."""
    of = outside_broadcast(0.0)
    rates = np.array([1.0, 1.0, of.pools[0].members[2].capacity])
    busy = replace(of.pools[0], offered={"interactive": rates})
    assert Lines(of).share(busy) == UPLINK_SHARE
    busier = replace(busy, offered={"interactive": rates + np.array([36.0, 0.0, 0.0])})
    assert Lines(of).share(busier) > UPLINK_SHARE


def test_without_a_declared_line_more_come() -> None:
    of = replace(outside_broadcast(0.7), uplink_bytes_per_s=None)
    assert guests(of, plan(of), "van") > 1.5 * VAN_TAKES


def test_a_door_without_clients_looks_past_a_full_line() -> None:
    of = outside_broadcast(0.7)
    pool = of.pools[0]
    rates = pool.offered["interactive"]
    crowded = replace(of, pools=(replace(pool, offered={"interactive": np.array([2 * rates[0], 0, 0])}),))
    made = plan(crowded)
    assert made.pools[CLS].load[2] == pytest.approx(VAN_TAKES, rel=2e-3)
    assert made.shares["studio", CLS, "interactive"].get("van", 0.0) < 1e-3


def test_pools_share_a_line() -> None:
    of = outside_broadcast(0.7)
    both = replace(of, pools=(of.pools[0], replace(of.pools[0], pool=Pool("model", "other"))))
    assert guests(both, plan(both), "van") == pytest.approx(VAN_TAKES, rel=5e-3)


def test_what_leaves_a_site_leaves_guests_less() -> None:
    """Of 700 kB/s, 5 requests away take 500 kB out and 50 kB in: 6.5 requests of 100 kB come in, and their
    answers of 10 kB go out."""
    of = replace(
        outside_broadcast(0.5, request_bytes=1e5, response_bytes=1e4),
        uplink_bytes_per_s=np.array([np.inf, np.inf, 1e6]),
    )
    lines, pool = Lines(of), of.pools[0]
    away = np.array([0.0, 0.0, 5.0])
    assert lines.most_away(pool)[2] == pytest.approx(7)
    assert lines.most_guests(pool, away)[2] == pytest.approx(6.5)
    lines.take(pool, away, np.array([0.0, 0.0, 2.0]))
    assert lines.most_away(pool)[2] == pytest.approx(1.8)  # 180 kB are left to go out
    assert lines.most_guests(pool, np.zeros(3))[2] == pytest.approx(4.5)  # and 450 kB to come in
    assert np.isinf(lines.most_guests(pool, away)[:2]).all()


def test_nothing_jumps_where_a_line_fills() -> None:
    """Load in small steps to where the van's line is full and back: shares follow in small steps."""
    loads = np.concatenate([np.arange(0.57, 0.61, 0.001), np.arange(0.61, 0.57, -0.001)])
    fresh, followed, full = [], [], set()
    before: Plan | None = None
    for load in loads:
        of = outside_broadcast(float(load))
        alone, before = plan(of), plan(of, before)
        full.add(len(alone.pools[CLS].classes["interactive"].guests.member))
        for rows, made in ((fresh, alone), (followed, before)):
            row = made.shares["studio", CLS, "interactive"]
            rows.append([row.get(site, 0.0) for site in of.sites])
    assert full == {0, 1}
    assert np.abs(np.diff(fresh, axis=0)).max() < 0.005
    # Prices that are kept until it is worth while move shares in steps of that.
    assert np.abs(np.array(followed) - np.array(fresh)).max() < 0.05


def test_the_same_load_again_moves_nothing() -> None:
    for load in np.arange(0.58, 0.61, 0.004):
        of = outside_broadcast(float(load))
        first = plan(of)
        second = plan(of, first)
        third = plan(of, second)
        for key, row in first.shares.items():
            assert dict(second.shares[key]) == pytest.approx(dict(row), abs=1e-9)
            assert dict(third.shares[key]) == pytest.approx(dict(row), abs=1e-9)
