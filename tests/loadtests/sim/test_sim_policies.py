"""Each policy's defining property."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_fleets import CLS, answered_by, campaign, constant, exponential, failed, run, topology

from loadtests.sim.live_view import fleet_view, site_views
from loadtests.sim.orca import PROBED
from loadtests.sim.policies import BOUND, POLICIES
from loadtests.sim.prequal import POOL, Probe, Probes, ranking, reuses
from loadtests.sim.simulation import Simulation
from loadtests.sim.view import View
from serving.fleet import DEFAULT_CLASS, Class
from serving.router.admission import rooms
from serving.router.shares import shares
from serving.router.view import Pool

AT_S0 = [{"kind": "poisson", "rate": 80, "site": "s0"}]
TIGHT = {CLS: {"service": {1: exponential(10)}, "waiting": 2}}


def test_local_only_never_leaves_even_where_it_is_refused() -> None:
    result = run(campaign(1, 30, arrivals=AT_S0), topology(3, pools=TIGHT), "local-only")
    assert set(answered_by(result, "s0")) == {"s0"}
    assert failed(result) > 0


def test_local_only_has_one_other_home_where_it_serves_nothing() -> None:
    network = {"links": [{"between": ["s0", "s2"], "rtt_ms": 0.1}]}
    fleet = topology({"s0": {"pools": []}, "s1": {}, "s2": {}}, network=network)
    result = run(campaign(1, 30, arrivals=[{**AT_S0[0], "rate": 20}]), fleet, "local-only")
    assert set(answered_by(result, "s0")) == {"s2"}


def test_round_robin_takes_turns() -> None:
    result = run(campaign(1, 30, arrivals=AT_S0), topology(3), "round-robin")
    counts = answered_by(result, "s0").values()
    assert max(counts) - min(counts) <= 1


def test_least_request_goes_where_this_door_has_least() -> None:
    """One site is ten times slower: it gets less, though this door knows nothing of speeds."""
    fleet = topology({"s0": {}, "s1": {"speed": 0.1}, "s2": {}}, telemetry_s=60)
    answered = answered_by(run(campaign(1, 60, arrivals=AT_S0), fleet, "least-request"), "s0")
    assert answered["s1"] < 0.5 * min(answered["s0"], answered["s2"])


def test_waterfall_fills_the_nearest_first() -> None:
    network = {"rtt_ms": 50, "links": [{"between": ["s0", "s2"], "rtt_ms": 1}]}
    load = campaign(1, 60, arrivals=[{**AT_S0[0], "rate": 130}])
    fleet = topology(4, pools=TIGHT, network=network, telemetry_s=0)
    answered = answered_by(run(load, fleet, "waterfall"), "s0")
    assert answered["s0"] > answered["s2"] > answered.get("s1", 0) + answered.get("s3", 0)


def test_static_shares_follow_what_sites_can_do() -> None:
    fleet = topology({"s0": {"scale": 3}, "s1": {"speed": 0.5}, "s2": {}})
    answered = answered_by(run(campaign(1, 200, arrivals=AT_S0), fleet, "static-shares"), "s0")
    whole = sum(answered.values())
    for site, share in {"s0": 3 / 4.5, "s1": 0.5 / 4.5, "s2": 1 / 4.5}.items():
        assert answered[site] / whole == pytest.approx(share, abs=0.02)


def test_client_side_weights_follow_what_sites_can_do_once_they_are_known() -> None:
    """Envoy's weights are rates over utilisation: capacity, whatever the sites get now."""
    fleet = topology({"s0": {"scale": 3}, "s1": {"speed": 0.5}, "s2": {}})
    load = campaign(1, 100, arrivals=AT_S0, warm_up_s=20)
    answered = answered_by(run(load, fleet, "weighted-round-robin"), "s0")
    whole = sum(answered.values())
    for site, share in {"s0": 3 / 4.5, "s1": 0.5 / 4.5, "s2": 1 / 4.5}.items():
        assert answered[site] / whole == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize(("rate", "stays"), [(4, True), (80, False)])
def test_load_aware_locality_stays_while_home_is_not_much_busier(rate: float, stays: bool) -> None:
    fleet = topology({"s0": {}, "s1": {}, "s2": {"scale": 2}})
    load = campaign(1, 60, arrivals=[{**AT_S0[0], "rate": rate}], warm_up_s=20)
    answered = answered_by(run(load, fleet, "load-aware-locality"), "s0")
    whole = sum(answered.values())
    if stays:
        assert answered["s0"] / whole == pytest.approx(1 - PROBED, abs=0.02)
    else:
        assert answered["s2"] > answered["s1"] > 0.1 * whole


def test_slate_like_is_told_what_clients_bring() -> None:
    """A site that is full already gets nothing from the others; what comes later is met as it comes."""
    arrivals = [{"kind": "poisson", "rate": rate, "site": f"s{n}"} for n, rate in enumerate((150, 85, 10))]
    fleet = topology({"s0": {}, "s1": {}, "s2": {"scale": 2}}, network={"rtt_ms": 4})
    result = run(campaign(1, 40, arrivals=arrivals, warm_up_s=5), fleet, "slate-like")
    answered = answered_by(result, "s0")
    assert answered["s2"] > 3 * answered.get("s1", 0)
    assert failed(result) == 0


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_nothing_is_much_better_than_knowing_everything(policy: str) -> None:
    """Unlike sites, skewed arrivals: the yardstick is one."""
    arrivals = [{"kind": "poisson", "rate": rate, "site": f"s{n}"} for n, rate in enumerate((150, 40, 10))]
    fleet = topology({"s0": {}, "s1": {"speed": 2}, "s2": {"scale": 2}}, network={"rtt_ms": 4})
    load = campaign(1, 40, arrivals=arrivals)
    mine, bound = (run(load, fleet, name).histogram("response").mean_ms for name in (policy, BOUND))
    assert mine > 0.97 * bound


def test_the_yardstick_is_one_queue_where_sites_are_next_to_each_other() -> None:
    """Join the shortest queue over equal servers without a way between them comes near M/M/c."""
    fleet = topology(
        4, pools={CLS: {"service": {1: exponential(10)}, "waiting": 1_000}}, network={"rtt_ms": 0}
    )
    mean = run(campaign(280, 100), fleet, BOUND).histogram("response").mean_ms
    one_queue = 10 * (1 + 0.4287 / (4 * 0.3))  # Erlang C for 4 servers at 0.7
    alone = 10 / 0.3
    assert one_queue * 0.95 < mean < one_queue * 1.35 < 0.6 * alone


def test_headend_halves_the_time_of_what_local_first_lets_wait() -> None:
    """Most clients at the smallest of three sites; the plan is computed by the live routers' own code."""
    arrivals = [{"kind": "poisson", "rate": rate, "site": f"s{n}"} for n, rate in enumerate((350, 40, 10))]
    fleet = topology({"s0": {}, "s1": {"scale": 2}, "s2": {"scale": 4}}, network={"rtt_ms": 4})
    load = campaign(1, 40, arrivals=arrivals, warm_up_s=10)
    planned, first = (run(load, fleet, policy) for policy in ("headend", "local-first"))
    assert planned.histogram("response").mean_ms < 0.5 * first.histogram("response").mean_ms
    assert failed(planned) == 0
    assert set(answered_by(planned, "s0")) == {"s0", "s1", "s2"}


@pytest.mark.parametrize("serves", [True, False])
def test_headend_asks_the_routers_own_code(serves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `shares` says is what happens; here it is changed, as a plan does."""
    fleet = topology({"s0": {} if serves else {"pools": []}, "s1": {}, "s2": {}})
    split = shares(fleet_view(fleet, site_views(fleet), "s0"), Pool("model", CLS), DEFAULT_CLASS)
    load = campaign(1, 100, arrivals=[{**AT_S0[0], "rate": 40}])
    answered = answered_by(run(load, fleet), "s0")
    for site, share in split.items():
        assert answered.get(site, 0) / sum(answered.values()) == pytest.approx(share, abs=0.03)
    monkeypatch.setattr("loadtests.sim.live.shares", lambda *_: {"s1": 0.25, "s2": 0.75, "s0": 0})
    answered = answered_by(run(load, topology(3)), "s0")
    assert answered["s1"] / (answered["s1"] + answered["s2"]) == pytest.approx(0.25, abs=0.03)
    assert "s0" not in answered


def test_sites_without_a_share_are_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtests.sim.live.shares", lambda *_: {"s0": 0.5, "s1": 0.5, "s2": 0})
    events = [{"at_s": 20, "do": "kill", "site": site, "part": "triton"} for site in ("s0", "s1")]
    fleet = topology(3, failures={"restart_s": {"triton": 100}})
    result = run(campaign(1, 60, arrivals=[{**AT_S0[0], "rate": 40}], events=events), fleet)
    before = {one.site for one in result.slices if one.at_s < 19 and one.right}
    after = {one.site for one in result.slices if one.at_s > 26 and one.right}
    assert (before, after) == ({"s0", "s1"}, {"s2"})


def test_the_simulated_view_is_a_live_one() -> None:
    fleet = topology({"s0": {}, "s1": {"pools": []}, "s2": {"scale": 2}}, pools=TIGHT)
    view = fleet_view(fleet, site_views(fleet), "s2")
    pool = Pool("model", CLS)
    assert [site.name for site in view.sites_of(pool)] == ["s2", "s0"]
    assert view.counts(pool)
    assert rooms(view, pool)[DEFAULT_CLASS] == 4
    assert not fleet_view(fleet, site_views(fleet), "s1").counts(pool)


PROBES = st.lists(
    st.builds(Probe, st.integers(0, 5), st.just(0.0), st.integers(0, 30), st.floats(0, 1), st.just(1)),
    min_size=1,
)


@given(PROBES, st.integers(0, 30))
def test_prequal_takes_the_fastest_cold_site_or_the_least_busy_hot_one(
    probes: list[Probe], limit: int
) -> None:
    best = min(probes, key=ranking(limit))
    if cold := [probe for probe in probes if probe.in_flight <= limit]:
        assert best.in_flight <= limit
        assert best.latency == min(probe.latency for probe in cold)
    else:
        assert best.in_flight == min(probe.in_flight for probe in probes)


@given(PROBES)
def test_prequals_pool_is_bounded_and_its_limit_a_quantile(probes: list[Probe]) -> None:
    kept = Probes()
    for probe in probes:
        kept.add(probe)
    assert kept.pool == probes[-POOL:]
    recent = sorted(probe.in_flight for probe in probes[-64:])
    assert kept.limit == recent[int(2**-0.25 * (len(recent) - 1))]


def test_prequal_forgets_what_is_old_used_or_worst() -> None:
    kept = Probes()
    for number in range(5):
        kept.add(Probe(number, float(number), number, 0.1 * number, 2))
    kept.forget(1.5)
    assert [probe.site for probe in kept.pool] == [1, 2, 3, 4]
    once = kept.pool[2]
    kept.use(once)
    assert (once.in_flight, once in kept.pool) == (4, True)
    kept.use(once)
    assert [probe.site for probe in kept.pool] == [1, 2, 4]
    kept.remove(10)  # the oldest
    kept.remove(10)  # the worst
    assert [probe.site for probe in kept.pool] == [2]


@pytest.mark.parametrize(("sites", "uses"), [(3, 16), (16, 16), (32, 4), (100, 2 / 1.52), (1000, 1.028)])
def test_prequals_reuse_budget(sites: int, uses: float) -> None:
    assert reuses(sites) == pytest.approx(uses, rel=0.01)


def test_prequal_avoids_the_slow_site() -> None:
    fleet = topology({"s0": {"speed": 0.2}, "s1": {}, "s2": {}, "s3": {}}, network={"rtt_ms": 0.5})
    answered = answered_by(run(campaign(1, 60, arrivals=AT_S0), fleet, "prequal"), "s0")
    assert answered.get("s0", 0) < 0.5 * min(answered[f"s{number}"] for number in (1, 2, 3))


def test_telemetry_is_as_old_as_declared() -> None:
    slow = {CLS: {"service": {1: constant(100_000)}, "instances": 100}}
    at_s1 = [{"kind": "constant", "rate": 10, "site": "s1"}]
    seen: dict[float, tuple[int, int]] = {}

    def note(view: View, class_: Class, sites: Sequence[int]) -> int:
        seen[round(view.now, 3)] = view.seen[view.door.site], view.in_flight(view.door.site)
        return view.home

    load = campaign(1, 3, arrivals=at_s1)
    Simulation(load, topology(2, pools=slow, telemetry_s=1), note).run()
    # It is heard once a second; what a door counts by itself it knows at once.
    assert seen[0.9] == (0, 9)
    assert seen[1.9] == (10, 19)
    Simulation(load, topology(2, pools=slow, telemetry_s=0), note).run()
    assert seen[1.9] == (19, 19)
