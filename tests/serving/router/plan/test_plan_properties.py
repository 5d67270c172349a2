"""What must hold of every plan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_problems import CLS, problem

from serving.fleet import CLASSES
from serving.fleet.balancing import Balancing, Placement
from serving.router.plan import Member, Plan, Problem, plan
from serving.router.plan.settling import TRIED

few = settings(max_examples=15, deadline=None)
NAMES = ("a", "b", "c", "d", "e")


@st.composite
def problems(draw: st.DrawFn, placement: Placement = "anywhere", load: float | None = None) -> Problem:
    """Up to five unlike sites with unlike ways between them; `load`: share of capacity that is offered."""
    names = NAMES[: draw(st.integers(2, len(NAMES)))]
    serving = [name for name in names if draw(st.integers(0, 4))] or list(names[:1])
    members = [
        Member(
            name,
            instances=draw(st.integers(1, 8)),
            single_s=(single := draw(st.floats(0.002, 0.2))),
            max_batch=(batch := draw(st.sampled_from((1, 8)))),
            full_s=single * (1 if batch == 1 else draw(st.floats(1, 8))),
            cv2=draw(st.floats(0, 4)),
        )
        for name in serving
    ]
    share = draw(st.floats(0.01, 1.6)) if load is None else load
    weights = {name: draw(st.floats(0.01, 1)) for name in names}
    rate = share * sum(member.capacity for member in members) / sum(weights.values())
    parts = dict(zip(CLASSES, draw(st.sampled_from(((1, 0, 0), (0, 1, 0), (0.2, 0.5, 0.3)))), strict=True))
    return problem(
        members,
        {
            class_: {name: part * rate * weight for name, weight in weights.items()}
            for class_, part in parts.items()
        },
        rtts_ms={(a, b): draw(st.floats(0.1, 100)) for a in names for b in names if a < b},
        doors=names,
        balancing=Balancing(placement=placement),
        request_bytes=draw(st.sampled_from((0, 1e5))),
        s_per_byte=np.full((len(names), len(names)), 1e-8) * (1 - np.eye(len(names))),
    )


def loads(made: Plan) -> dict[str, float]:
    planned = made.pools[CLS]
    return {member.site: load for member, load in zip(planned.problem.members, planned.load, strict=True)}


@few
@given(problems())
def test_shares_sum_to_one_and_all_that_is_offered_is_placed(of: Problem) -> None:
    made = plan(of)
    assert len(made.shares) == len(of.sites) * len(CLASSES)
    for row in made.shares.values():
        assert sum(row.values()) == pytest.approx(1)
        assert all(np.isfinite(share) and share >= 0 for share in row.values())
    offered = sum(float(rates.sum()) for rates in of.pools[0].offered.values())
    assert sum(loads(made).values()) == pytest.approx(offered, rel=1e-4, abs=1e-4)


@few
@given(problems(), st.data())
def test_sites_of_which_nothing_is_known_keep_their_own_and_are_tried(
    of: Problem, data: st.DataObject
) -> None:
    pool = of.pools[0]
    strange = sorted(set(of.sites) - {member.site for member in pool.members})
    unmeasured = frozenset(name for name in strange if data.draw(st.booleans()))
    untried = frozenset(name for name in unmeasured if data.draw(st.booleans()))
    made = plan(replace(of, pools=(replace(pool, unmeasured=unmeasured, untried=untried),)))
    for (door, _, _), row in made.shares.items():
        assert sum(row.values()) == pytest.approx(1)
        if door in unmeasured:
            assert row == {door: 1.0}
        else:
            tried = sum(share for site, share in row.items() if site in untried)
            assert tried == pytest.approx(TRIED if untried else 0, rel=0.01)
            assert not row.keys() & (unmeasured - untried)


@few
@given(problems(placement="local-only"))
def test_local_only_never_leaves(of: Problem) -> None:
    members = {member.site for member in of.pools[0].members}
    for (door, _, _), row in plan(of).shares.items():
        assert row == {door: 1.0}
        assert door in members


@few
@given(problems(placement="prefer-local", load=0.3))
def test_prefer_local_leaves_only_when_full(of: Problem) -> None:
    """Full is a site for a class whose bound it has reached, also by what more urgent guests bring."""
    made, pool = plan(of), of.pools[0]
    for member, load in zip(pool.members, made.pools[CLS].load, strict=True):
        own = sum(rates[of.number[member.site]] for rates in pool.offered.values())
        for class_ in CLASSES:
            has_room = load < 0.99 * pool.balancing.bound(class_) * member.capacity
            if own < 0.8 * member.capacity and has_room:
                assert made.shares[member.site, CLS, class_][member.site] > 0.99


def _one_site_is_nearly_all() -> Problem:
    """Servers that never wait before they are nearly full: prices hardly rise, and then at once."""
    ways = {
        ("a", "c"): 28.0,
        ("c", "e"): 4.0,
        ("d", "e"): 15.0,
        **dict.fromkeys(
            (("a", "b"), ("a", "d"), ("a", "e"), ("b", "c"), ("b", "d"), ("b", "e"), ("c", "d")), 3.0
        ),
    }
    return problem(
        [
            Member("a", 7, 0.002, cv2=0.0),
            Member("c", 1, 0.03125, cv2=0.0),
            *(Member(site, 1, 0.125, cv2=0.0) for site in ("d", "e")),
        ],
        {
            "live": dict.fromkeys(NAMES, 99.344),
            "interactive": dict.fromkeys(NAMES, 248.36),
            "batch": dict.fromkeys(NAMES, 149.016),
        },
        rtts_ms=ways,
        doors=NAMES,
        request_bytes=1e5,
        s_per_byte=np.full((5, 5), 1e-8) * (1 - np.eye(5)),
    )


def _one_site_is_very_small() -> Problem:
    """The ten-thousandth part of all that is offered is more than it can take."""
    return problem(
        [Member("a", 8, 1e-5), Member("b", 1, 0.02)],
        {"interactive": {"a": 280_000.0, "b": 280_000.0}},
        rtt_ms=100.0,
    )


@few
@given(problems(load=0.7))
@example(_one_site_is_nearly_all())
@example(_one_site_is_very_small())
def test_no_site_is_above_its_bound_when_there_is_room_elsewhere(of: Problem) -> None:
    """Ways are short against waits here, and anything may go anywhere."""
    pool = of.pools[0]
    bound = max(pool.balancing.bound(class_) for class_, rates in pool.offered.items() if rates.any())
    for member in pool.members:
        assert loads(plan(of))[member.site] <= member.capacity * bound * 1.002


def _hundreds(sites: int, load: float, unlike: float, seed: int) -> Problem:
    """Unlike sites in the plane."""
    random = np.random.default_rng(seed)
    names = [f"s{number:03}" for number in range(sites)]
    members = [
        Member(name, int(2 ** random.integers(0, 4)), 0.05 * float(np.exp(unlike * random.standard_normal())))
        for name in names
    ]
    brought = random.exponential(1, sites)
    brought *= load * sum(member.capacity for member in members) / brought.sum()
    places = random.random((sites, 2))
    far = 0.002 + 0.08 * np.sqrt(((places[:, None] - places) ** 2).sum(axis=2))
    np.fill_diagonal(far, 0)
    of = problem(members, {"interactive": dict(zip(names, brought, strict=True))})
    return replace(of, rtt_s=far)


@settings(max_examples=5, deadline=None)
@given(st.integers(100, 300), st.floats(0.5, 0.8), st.floats(0, 1.5), st.integers(0, 1000))
def test_no_site_is_above_its_bound_among_hundreds(sites: int, load: float, unlike: float, seed: int) -> None:
    """Also where some have thousands of times the capacity of others, and doors know the nearest only."""
    of = _hundreds(sites, load, unlike, seed)
    made = plan(of, doors=[])
    for member in of.pools[0].members:
        assert loads(made)[member.site] <= member.capacity * 0.9 * 1.002


def _seconds(of: Problem, made: Plan) -> float:
    """What requests on the way and at sites take together."""
    (pool,) = of.pools
    on_the_way = sum(
        pool.offered[class_][of.number[door]] * share * of.rtt_s[of.number[door], of.number[site]]
        for (door, _, class_), row in made.shares.items()
        for site, share in row.items()
        if class_ in pool.offered
    )
    planned = made.pools[CLS]
    return float(on_the_way + planned.load @ planned.response_s)


@settings(max_examples=5, deadline=None)
@given(st.integers(130, 200), st.floats(0.5, 0.8), st.floats(0, 1), st.integers(0, 1000))
def test_a_plan_that_follows_is_nearly_as_good_as_one_from_nothing(
    sites: int, load: float, unlike: float, seed: int
) -> None:
    """Second after second, as what doors bring changes, and no site is above its bound."""
    now = _hundreds(sites, load, unlike, seed)
    made = plan(now)
    random = np.random.default_rng(seed)
    for _ in range(3):
        (pool,) = now.pools
        rates = pool.offered["interactive"] * np.exp(0.05 * random.standard_normal(sites))
        now = replace(now, pools=(replace(pool, offered={"interactive": rates}),))
        made = plan(now, made)
    assert _seconds(now, made) <= 1.015 * _seconds(now, plan(now))
    for member in pool.members:
        assert loads(made)[member.site] <= member.capacity * 0.9 * 1.002


@few
@given(problems(), st.data())
def test_more_capacity_never_lowers_a_sites_load(of: Problem, data: st.DataObject) -> None:
    pool = of.pools[0]
    chosen = data.draw(st.integers(0, len(pool.members) - 1))
    member = pool.members[chosen]
    larger = replace(member, instances=member.instances + data.draw(st.integers(1, 8)))
    members = (*pool.members[:chosen], larger, *pool.members[chosen + 1 :])
    grown = replace(of, pools=(replace(pool, members=members),))
    offered = sum(float(rates.sum()) for rates in pool.offered.values())
    assert loads(plan(grown))[member.site] >= loads(plan(of))[member.site] - 1e-3 * offered


@few
@given(problems(), st.permutations(NAMES))
def test_names_change_nothing(of: Problem, names: list[str]) -> None:
    """The same fleet under other names, and so in another order."""
    new = dict(zip(of.sites, names, strict=False))
    pool = of.pools[0]
    sites = tuple(sorted(new.values()))
    old = {there: here for here, there in new.items()}
    places = [of.number[old[site]] for site in sites]
    named = (replace(member, site=new[member.site]) for member in pool.members)
    renamed = Problem(
        sites,
        of.rtt_s[np.ix_(places, places)],
        of.s_per_byte[np.ix_(places, places)],
        (
            replace(
                pool,
                members=tuple(sorted(named, key=lambda member: member.site)),
                offered={class_: rates[places] for class_, rates in pool.offered.items()},
            ),
        ),
    )
    before, after = plan(of), plan(renamed)
    for (door, _, class_), row in before.shares.items():
        other = after.shares[new[door], CLS, class_]
        for site, share in row.items():
            assert other.get(new[site], 0) == pytest.approx(share, abs=2e-3)


@few
@given(problems())
def test_every_front_door_computes_the_same(of: Problem) -> None:
    """One that asks for its own shares gets what one that asks for all gets; twice the same is the same."""
    everything = plan(of)
    for door in of.sites:
        assert plan(of, doors=[door]).of_door(door) == everything.of_door(door)


@few
@given(problems(), problems())
def test_a_plan_follows_another_whatever_the_fleets(first: Problem, second: Problem) -> None:
    for row in plan(second, plan(first)).shares.values():
        assert sum(row.values()) == pytest.approx(1)


@few
@given(problems(load=0.5))
def test_urgent_classes_see_only_what_is_as_urgent(of: Problem) -> None:
    """Whatever `batch` brings, the shares of `live` stay."""
    pool = of.pools[0]
    more = replace(pool, offered={**pool.offered, "batch": np.full(len(of.sites), 10.0)})
    before, after = plan(of), plan(replace(of, pools=(more,)))
    for door in of.sites:
        row = before.shares[door, CLS, "live"]
        assert after.shares[door, CLS, "live"] == pytest.approx(row, abs=1e-6)
