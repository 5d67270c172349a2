"""Doors, sites and what lies between: nothing is lost, whatever fails; what is too much goes elsewhere."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_fleets import (
    CLS,
    REVIEW,
    answered_by,
    campaign,
    constant,
    exponential,
    failed,
    run,
    topology,
)

from loadtests import arrivals
from loadtests.results import total
from loadtests.sim.policies import POLICIES
from loadtests.sim.run import policy_of, simulate
from loadtests.sim.simulation import Simulation
from loadtests.sim.topology import Topology
from models.errors import DeclarationError, UsageError

MIXED = [
    {"name": "cls", "model": CLS, "client": "http", "input": "text-lines", "class": "live", "batch": 2},
    {"name": "review", "app": REVIEW, "client": "http", "input": "clean-texts", "timeout_s": 0.5},
]
POOLS = {
    CLS: {"service": {1: exponential(5), 4: exponential(10)}, "max_batch": 4, "waiting": 6},
    REVIEW: {"kind": "app", "service": {1: exponential(30)}, "instances": 3, "waiting": 5},
}
EVENTS = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {
                "at_s": st.floats(0, 9),
                "do": st.just("kill"),
                "site": st.sampled_from(["s0", "s1", "s2"]),
                "part": st.sampled_from(["triton", "serve", "envoy", "agent"]),
            }
        ),
        st.fixed_dictionaries(
            {
                "at_s": st.floats(0, 9),
                "do": st.sampled_from(["cut", "restore"]),
                "site": st.sampled_from(["s0", "s1", "s2"]),
            }
        ),
    ),
    max_size=6,
)


@given(
    policy=st.sampled_from(sorted(POLICIES)),
    events=EVENTS,
    seed=st.integers(1, 1_000),
    shared=st.booleans(),
    telemetry=st.sampled_from([0.0, 0.5]),
)
@settings(max_examples=40, deadline=None)
def test_every_arrival_ends_once(
    policy: str, events: list[dict[str, Any]], seed: int, shared: bool, telemetry: float
) -> None:
    load = campaign(150, 10, seed=seed, workload=MIXED, events=events)
    fleet = topology(
        {f"s{number}": {"machine": "m" if shared else None} for number in range(3)},
        pools=POOLS,
        machines={"m": {"cores": 3}},
        network={"rtt_ms": 20},
        telemetry_s=telemetry,
        failures={"restart_s": {"site": 1, "triton": 0.5, "serve": 0.5, "envoy": 0.1}},
    )
    sim = Simulation(load, fleet, policy_of(policy))
    sim.run()
    offered = Counter((start.door, start.work.name) for start in arrivals.schedule(load, sim.names))
    ended: Counter[tuple[str, str]] = Counter()
    for one in sim.counts.tally().series():
        ended[one.door, one.work] += one.sent
    assert ended == offered
    # And nothing is left anywhere.
    for servers in sim.servers.values():
        assert all(
            not (one.own or one.guests or one.coming or one.rows or one.queue) for one in servers.values()
        )
    for views in sim.views.values():
        assert all(not any(view.outstanding) for view in views.values())


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_the_same_seed_gives_the_same_result(policy: str) -> None:
    load = campaign(200, 10, workload=MIXED, events=[{"at_s": 4, "do": "cut", "site": "s1"}])
    fleet = topology(3, pools=POOLS)
    first, second, other = (
        run(each, fleet, policy) for each in (load, load, load.model_copy(update={"seed": 2}))
    )
    assert first.model_dump(exclude={"started_at"}) == second.model_dump(exclude={"started_at"})
    assert first.slices != other.slices


def test_way_and_payload_take_their_time() -> None:
    pool = {"service": {1: constant(10)}, "overhead": constant(2), "request_kib": 100, "response_kib": 50}
    network = {"links": [{"between": ["s0", "s1"], "rtt_ms": 30, "mbit_s": 8.192}]}
    fleet = topology({"s0": {"pools": []}, "s1": {}}, pools={CLS: pool}, network=network)
    result = run(
        campaign(1, 20, kind="constant", arrivals=[{"kind": "constant", "rate": 1, "site": "s0"}]), fleet
    )
    # 30 ms there and back, 100 and 50 ms for the payloads, 10 + 2 there.
    assert result.histogram("response").percentile_ms(50) == pytest.approx(192, rel=0.001)


def test_a_sites_own_line_is_shared_by_all_ways() -> None:
    """100 KiB take 100 ms of the line, whether they go to one site or to two."""
    pool = {"service": {1: constant(1)}, "instances": 100, "request_kib": 100}
    sites = {"s0": {"pools": [], "uplink_mbit_s": 8.192}, "s1": {}, "s2": {}}
    fleet = topology(sites, pools={CLS: pool}, network={"rtt_ms": 0})
    load = campaign(1, 20, kind="constant", arrivals=[{"kind": "constant", "rate": 20, "site": "s0"}])
    result = run(load, fleet, "round-robin")
    # Twice what the line carries: a request that comes after t seconds waits for t.
    assert result.histogram("response").percentile_ms(50) == pytest.approx(10_000, rel=0.1)


def test_payloads_queue_for_a_link() -> None:
    pool = {"service": {1: constant(1)}, "instances": 100, "request_kib": 100}
    network = {"rtt_ms": 0, "mbit_s": 8.192}
    fleet = topology({"s0": {"pools": []}, "s1": {}}, pools={CLS: pool}, network=network)
    at_s0 = [{"kind": "constant", "rate": 20, "site": "s0"}]
    result = run(campaign(1, 1, arrivals=at_s0), fleet)
    # 20 in a second over a link that carries 10 a second: the last of them waits for a second more.
    assert result.histogram("response").max_ms == pytest.approx(1 + 100 + 19 * 50, rel=0.01)


def test_a_timeout_is_an_error_of_so_many_seconds() -> None:
    work = {"name": "cls", "model": CLS, "client": "http", "input": "text-lines", "timeout_s": 0.05}
    fleet = topology(pools={CLS: {"service": {1: constant(100)}}})
    result, tally, _ = simulate(campaign(1, 10, workload=[work]), fleet)
    assert total(result.series, "timeout") == result.sent
    assert all(row[6] - row[4] == pytest.approx(0.05) for row in tally.sample())


def test_too_many_in_flight_are_not_sent() -> None:
    fleet = topology(pools={CLS: {"service": {1: constant(1000)}, "instances": 50}})
    load = campaign(100, 1, kind="constant", limits={"in_flight": 10})
    assert total(run(load, fleet).series, "not-sent") == 90


def test_a_thousand_sites() -> None:
    result = run(campaign(300, 1), topology(1000))
    assert sum(one.right for one in result.series) == result.sent > 200


@pytest.mark.parametrize(
    ("limits", "ended_by", "sent"),
    [({"requests": 30}, "requests", 30), ({"spend": 0.2, "price_per_1000": {CLS: 10}}, "spend", 20)],
)
def test_limits_end_a_simulation(limits: dict[str, Any], ended_by: str, sent: int) -> None:
    result = run(campaign(10, 60, limits=limits), topology())
    assert (result.ended_by, result.complete, result.sent) == (ended_by, False, sent)
    assert result.seconds < 60


AT_S0 = [{"kind": "poisson", "rate": 150, "site": "s0"}]


def test_what_is_too_much_here_goes_elsewhere() -> None:
    """150 a second at a door whose site can do 100, and holds three at a time."""
    pool = {CLS: {"service": {1: exponential(10)}, "waiting": 2}}
    alone, both = (run(campaign(1, 60, arrivals=AT_S0), topology(sites, pools=pool)) for sites in (1, 2))
    assert failed(alone) > 0.2 * alone.sent
    assert failed(both) < 0.1 * both.sent
    answered = answered_by(both, "s0")
    # Near 100 a second stay here: nothing leaves as long as there is room.
    assert 0.85 * 60 * 100 < answered["s0"] <= 60 * 101
    assert answered["s1"] > 0


def test_nothing_leaves_while_there_is_room() -> None:
    result = run(campaign(40, 60), topology(2, pools={CLS: {"service": {1: constant(10)}, "waiting": 64}}))
    assert {(one.door, one.site) for one in result.series} == {("s0", "s0"), ("s1", "s1")}
    assert sum(one.attempts for one in result.series) == result.sent


def test_a_full_site_refuses_guests_and_they_are_asked_for_elsewhere() -> None:
    """s0 leads what is too much to s1 or s2 at random; s1 has no room to speak of."""
    pools = {CLS: {"service": {1: exponential(10)}, "waiting": 2}}
    sites = {"s0": {}, "s1": {"speed": 0.01}, "s2": {"scale": 4}}
    result = run(campaign(1, 30, arrivals=AT_S0), topology(sites, pools=pools))
    assert sum(one.attempts for one in result.series) > result.sent
    assert failed(result) < 0.02 * result.sent


CUT = [{"at_s": 20, "do": "cut", "site": "s1"}]


def test_a_cut_site_costs_its_door_and_little_else() -> None:
    result = run(campaign(50, 60, events=CUT), topology(3))
    lost = [one for one in result.series if one.outcomes.get("connection")]
    assert {one.door for one in lost} == {"s1"}
    # A third of the load came to the dead door for two thirds of the time.
    assert total(result.series, "connection") == pytest.approx(result.sent * 2 / 9, rel=0.15)
    others = [one for one in result.series if one.door != "s1"]
    assert sum(one.right for one in others) == sum(one.sent for one in others)
    assert [event.do for event in result.events] == ["cut s1"]


def test_what_a_dead_site_had_is_asked_for_elsewhere() -> None:
    """All of s0's requests are led to s1, which goes: those in flight there end well at s2."""
    sites = {"s0": {"pools": []}, "s1": {}, "s2": {}}
    pool = {CLS: {"service": {1: constant(200)}, "instances": 50}}
    at_s0 = [{"kind": "constant", "rate": 50, "site": "s0"}]
    result = run(campaign(1, 30, arrivals=at_s0, events=CUT), topology(sites, pools=pool))
    assert failed(result) == 0
    # Ten a second were in flight at s1 for 0.2 s, and attempts fail until probes or errors tell.
    again = sum(one.attempts for one in result.series) - result.sent
    assert 4 <= again < 60
    after = [one for one in result.slices if one.at_s > 26]
    assert {one.site for one in after} == {"s2"}


def test_a_silent_site_costs_the_connect_timeout() -> None:
    sites = {"s0": {"pools": []}, "s1": {}, "s2": {}}
    at_s0 = [{"kind": "constant", "rate": 50, "site": "s0"}]
    load = campaign(1, 30, arrivals=at_s0, events=CUT)
    refused, silent = (run(load, topology(sites, failures={"connect_s": connect})) for connect in (0, 1))
    assert refused.histogram("response").max_ms < 500
    assert 1000 <= silent.histogram("response").max_ms < 3000
    assert failed(silent) == 0


def test_a_killed_part_comes_back() -> None:
    events = [{"at_s": 10, "do": "kill", "site": "s0", "part": "triton"}]
    fleet = topology(2, failures={"restart_s": {"triton": 5}})
    result = run(campaign(1, 40, arrivals=[{**AT_S0[0], "rate": 50}], events=events), fleet)
    assert failed(result) == 0

    def answering(begin: float, end: float) -> set[str]:
        return {one.site for one in result.slices if begin <= one.at_s < end and one.right}

    assert answering(0, 9) == {"s0"}
    assert answering(11, 14) == {"s1"}
    # Back after five seconds and, at most, one probe's interval or an ejection.
    assert answering(25, 40) == {"s0"}
    assert result.events[0].took_s == 5


def test_apps_go_on_without_triton_and_models_without_ray() -> None:
    load = campaign(20, 30, workload=MIXED, events=[{"at_s": 1, "do": "kill", "site": "s0", "part": "serve"}])
    result = run(load, topology(1, pools=POOLS))
    by_work = {one.work: one for one in result.series if one.right}
    assert total([one for one in result.series if one.work == "cls"], "refused") == 0
    assert by_work["review"].right < by_work["cls"].right


def test_a_restored_site_is_used_again() -> None:
    events = [*CUT, {"at_s": 30, "do": "restore", "site": "s1"}]
    fleet = topology(2, failures={"restart_s": {"site": 5}})
    result = run(campaign(50, 60, events=events), fleet)
    last = [one for one in result.slices if one.at_s > 45 and one.door == "s1"]
    assert {one.site for one in last} == {"s1"}
    assert sum(one.right for one in last) == sum(one.sent for one in last)


def test_campaign_and_topology_have_to_fit() -> None:
    with pytest.raises(UsageError, match="no site for `ppocr-cls`"):
        run(campaign(1), topology(pools={REVIEW: POOLS[REVIEW]}))
    with pytest.raises(UsageError, match="would cut site `s1`"):
        run(campaign(1, events=CUT), topology(1))
    with pytest.raises(UsageError, match="no policy `fast`"):
        run(campaign(1), topology(), "fast")
    with pytest.raises(UsageError, match="site `mars`"):
        run(campaign(1, arrivals=[{"kind": "poisson", "rate": 1, "site": "mars"}]), topology())


def test_a_topology_is_a_strict_file() -> None:
    fleet = topology(
        {"s0": {"machine": "m"}, "s1": {"speed": 2}},
        pools=POOLS,
        machines={"m": {"cores": 2}},
        network={"links": [{"between": ["s0", "s1"], "rtt_ms": 3}]},
    )
    assert Topology.parse(fleet.to_yaml(), where="itself") == fleet
    with pytest.raises(DeclarationError, match=r"did you mean `max_batch`"):
        Topology.parse(fleet.to_yaml().replace("max_batch", "max_batches"), where="fleet.yaml")
    for change, message in (
        ({"sites": {"s0": {"pools": ["nothing"]}}}, "not among the pools"),
        ({"sites": {"s0": {"machine": "x"}}}, "not declared"),
        ({"network": {"links": [{"between": ["s0", "x"], "rtt_ms": 1}]}}, "not a site"),
        ({"pools": {CLS: {"service": {0: constant(1)}}}}, "by rows"),
    ):
        with pytest.raises(ValueError, match=message):
            Topology.model_validate({**topology().model_dump(), **change})
