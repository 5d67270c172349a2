"""The simulator against what queueing theory says exactly."""

import math
import statistics

import pytest
from simulated_fleets import CLS, campaign, constant, exponential, topology

from loadtests.campaign import Campaign
from loadtests.histogram import Histogram
from loadtests.sim import view
from loadtests.sim.run import simulate
from loadtests.sim.topology import Topology

SERVICE_S = 0.010
ENDLESS = 1_000_000


def erlang_c(servers: int, erlangs: float) -> float:
    """Probability that an arrival of M/M/c waits."""
    last = erlangs**servers / math.factorial(servers) * servers / (servers - erlangs)
    return last / (sum(erlangs**k / math.factorial(k) for k in range(servers)) + last)


def mean_response(fleet: Topology, rate: float) -> tuple[float, float]:
    """Mean over independent runs, and its standard error, seconds."""
    means = []
    for seed in range(1, 7):
        load = campaign(rate, 10_000 / rate, seed=seed, warm_up_s=1_000 / rate)
        means.append(simulate(load, fleet).result.histogram("response").mean_ms / 1e3)
    return statistics.mean(means), statistics.stdev(means) / math.sqrt(len(means))


def served(service: dict[str, object], instances: int = 1) -> Topology:
    pool = {"service": {1: service}, "instances": instances, "waiting": ENDLESS}
    return topology(pools={CLS: pool})


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_mm1(load: float) -> None:
    mean, error = mean_response(served(exponential(10)), load / SERVICE_S)
    assert mean == pytest.approx(SERVICE_S / (1 - load), abs=4 * error)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_md1(load: float) -> None:
    """Pollaczek and Khinchine: without variance, half the wait of M/M/1."""
    mean, error = mean_response(served(constant(10)), load / SERVICE_S)
    assert mean == pytest.approx(SERVICE_S * (1 + load / (2 * (1 - load))), abs=4 * error)


@pytest.mark.parametrize("cv", [0.5, 1.5])
def test_mg1(cv: float) -> None:
    """Pollaczek and Khinchine again: the wait grows with 1 + cv²."""
    load = 0.6
    mean, error = mean_response(served({"kind": "lognormal", "mean_ms": 10, "cv": cv}), load / SERVICE_S)
    wait = SERVICE_S * load * (1 + cv**2) / (2 * (1 - load))
    assert mean == pytest.approx(SERVICE_S + wait, abs=4 * error)


@pytest.mark.parametrize(("servers", "load"), [(2, 0.7), (8, 0.9)])
def test_mmc(servers: int, load: float) -> None:
    mean, error = mean_response(served(exponential(10), servers), servers * load / SERVICE_S)
    wait = erlang_c(servers, servers * load) * SERVICE_S / (servers * (1 - load))
    assert mean == pytest.approx(SERVICE_S + wait, abs=4 * error)


def test_mm1k_refuses_as_many_as_theory_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "RETRIES", 0)  # who asks again is not in the theory
    load, room = 0.9, 5
    fleet = topology(pools={CLS: {"service": {1: exponential(10)}, "waiting": room - 1}})
    result = simulate(campaign(load / SERVICE_S, 500), fleet, "local-only").result
    refused = 1 - sum(one.right for one in result.series) / result.sent
    assert refused == pytest.approx((1 - load) * load**room / (1 - load ** (room + 1)), rel=0.05)


def test_processor_sharing_is_as_slow_as_mm1_whatever_the_service_times() -> None:
    """M/G/1 with processor sharing: the mean is that of M/M/1, insensitive to the distribution."""
    load = 0.6
    pool = {"service": {1: {"kind": "lognormal", "mean_ms": 10, "cv": 2}}, "instances": ENDLESS}
    fleet = topology(pools={CLS: pool}, machines={"m": {"cores": 1}}, sites={"s0": {"machine": "m"}})
    mean, error = mean_response(fleet, load / SERVICE_S)
    assert mean == pytest.approx(SERVICE_S / (1 - load), abs=4 * error)


def test_two_sites_on_one_machine_slow_each_other() -> None:
    """Each alone would be at 30%; together they are at 60% of the one core."""
    pool = {"service": {1: exponential(10)}, "instances": ENDLESS}
    on_one = {"s0": {"machine": "m"}, "s1": {"machine": "m"}}
    fleet = topology(pools={CLS: pool}, machines={"m": {"cores": 1}}, sites=on_one)
    mean, error = mean_response(fleet, 60)
    assert mean == pytest.approx(SERVICE_S / 0.4, abs=4 * error)


def responses_ms(load: Campaign, fleet: Topology) -> list[float]:
    """By intended start, all of them."""
    rows = simulate(load, fleet).tally.sample()
    return [round(1e3 * (row[6] - row[4]), 3) for row in rows]


BATCHING = {"service": {1: constant(10), 4: constant(20)}, "max_batch": 4}
EIGHT = campaign(1000, 0.008, kind="constant")
"""One a millisecond, at 0 to 7 ms."""


def test_batches_are_what_waits_when_an_instance_is_free() -> None:
    # At 0 one alone, until 10; then those of 1 to 4, until 30; then three, which take 10 + 2/3 · 10.
    expected = [10, 29, 28, 27, 26, 41.667, 40.667, 39.667]
    assert responses_ms(EIGHT, topology(pools={CLS: BATCHING})) == expected


def test_a_batch_waits_for_others_no_longer_than_it_may() -> None:
    # Full at 3 ms, until 23; those of 4 to 7 are a full batch by then, until 43.
    fleet = topology(pools={CLS: {**BATCHING, "queue_delay_ms": 5}})
    assert responses_ms(EIGHT, fleet) == [23, 22, 21, 20, 39, 38, 37, 36]
    # Every 2 ms: at 3 ms there are only two, and the first may wait no longer; 13.333 ms for two.
    slow = campaign(500, 0.004, kind="constant")
    fleet = topology(pools={CLS: {**BATCHING, "queue_delay_ms": 3}})
    assert responses_ms(slow, fleet) == [16.333, 14.333]


def test_rows_of_a_request_fill_a_batch() -> None:
    work = {"name": "cls", "model": CLS, "client": "http", "input": "text-lines", "batch": 3}
    load = campaign(1000, 0.004, kind="constant", workload=[work])
    # Two requests of three rows do not fit into one execution of four; three rows take 16.667 ms.
    assert responses_ms(load, topology(pools={CLS: BATCHING})) == [16.667, 32.333, 48, 63.667]


def test_an_input_of_its_own_takes_its_own_time() -> None:
    pool = {"service": {1: constant(10)}, "inputs": {"pictures": {1: constant(50)}}, "instances": 4}
    common = {"model": CLS, "client": "http"}
    works = [{**common, "name": name, "input": name} for name in ("texts", "pictures")]
    result = simulate(campaign(10, 20, workload=works), topology(pools={CLS: pool})).result
    by_work = {one.work: median_ms(one.response) for one in result.series}
    assert by_work["texts"] == pytest.approx(10, rel=0.01)
    assert by_work["pictures"] == pytest.approx(50, rel=0.01)


def median_ms(encoded: str) -> float:
    return Histogram.decode(encoded).percentile_ms(50)
