"""The benchmark's way of validating the simulator, tried on a fleet whose truth is known: a simulated one."""

from loadtests.bench import simulator
from loadtests.bench.simulator import WORKS, compare_with, made_fleet
from loadtests.campaign import Campaign
from loadtests.results import Result
from loadtests.sim.run import simulate
from loadtests.sim.times import mean_ms
from loadtests.sim.topology import Topology
from serving.fleet import demo_fleet

CORES = 2.0


def lognormal(mean: float, cv: float = 0.4) -> dict[str, object]:
    return {"kind": "lognormal", "mean_ms": mean, "cv": cv}


TRUTH = Topology.model_validate(
    {
        "topology": "truth",
        "pools": {
            "ppocr-cls": {
                "service": {1: lognormal(6)},
                "overhead": {"kind": "constant", "mean_ms": 2},
                "max_batch": 32,
            },
            "review": {
                "kind": "app",
                "instances": 8,
                "waiting": 32,
                "service": {1: lognormal(10)},
                "inputs": {"captions": {1: lognormal(400)}},
            },
            "subtitles": {
                "kind": "app",
                "instances": 8,
                "waiting": 32,
                "service": {1: lognormal(1200)},
                "cores": 1.6,
            },
        },
        "sites": {"hub": {"machine": "here"}, "edge": {"machine": "here"}},
        "machines": {"here": {"cores": CORES}},
    }
)


class Live:
    """Stands for the live fleet: answers, and counts the processor time that it takes."""

    def __init__(self) -> None:
        self.cpu_s = 0.0

    def run(self, campaign: Campaign) -> Result:
        result = simulate(campaign.model_copy(update={"warm_up_s": 0}), TRUTH).result
        for one in result.series:
            work = result.campaign.work(one.work)
            pool = TRUTH.pools[work.pool]
            service = pool.inputs.get(work.input, pool.service)
            self.cpu_s += one.sent * pool.cores * mean_ms(service[1]) / 1e3
        return result.model_copy(update={"fleet": demo_fleet().model_dump(mode="json")})


def test_a_fleet_on_shared_cores_is_met_within_the_bounds() -> None:
    live = Live()
    figures = compare_with(live.run, lambda: live.cpu_s, CORES)
    assert set(figures["by_work"]) == {alone.work["name"] for alone in WORKS}
    assert all(figures["aims"].values()), figures["simulated_over_live"]
    # Half the machine was used in the comparison, as meant.
    used = sum(figures["rates"][name] * figures["cpu_s_per_request"][name] for name in figures["rates"])
    assert abs(used - simulator.LOAD * CORES) < 0.01


def test_speed_is_measured_for_every_policy_of_a_made_fleet() -> None:
    fleet = made_fleet(3)
    assert list(fleet.sites) == ["s0", "s1", "s2"]
    figures = simulator._speed(fleet, "prequal", 0.5)
    assert figures["requests"] > 400
    assert figures["events_per_s"] > 0
