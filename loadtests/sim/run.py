"""From a campaign and a topology to the same `Result` that a run against servers leaves."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import metadata
from typing import NamedTuple

from loadtests.campaign import Campaign
from loadtests.results import Generator, Result, ServerSample
from loadtests.sim.policies import POLICIES
from loadtests.sim.server import Server
from loadtests.sim.simulation import Simulation
from loadtests.sim.topology import Topology
from loadtests.sim.view import Policy
from loadtests.tally import Tally
from models.errors import UsageError

SAMPLES = 20_000
"""Server samples that a result may hold."""
_PERFECT = Generator(
    workers=1, cpu_share=0, lag_p99_ms=0, slip_p50_ms=0, slip_p99_ms=0, slip_max_ms=0, pressure=0, steal=0
)


def policy_of(name: str) -> Policy:
    """The policy of this name. Raises `UsageError`."""
    if name not in POLICIES:
        raise UsageError(f"there is no policy `{name}`", hint=f"There are: {', '.join(POLICIES)}.")
    return POLICIES[name]


class Simulated(NamedTuple):
    """What a simulation leaves."""

    result: Result
    """Not judged yet."""
    tally: Tally
    events: int
    """Events that the simulator worked off, arrivals not counted."""


def simulate(campaign: Campaign, topology: Topology, policy: str = "headend") -> Simulated:
    """Run `campaign` on `topology` under the policy of this name.

    The same arguments give the same result, except for when it was made. Raises `UsageError` when campaign
    and topology do not fit each other, or the policy is unknown.
    """
    sim = Simulation(campaign, topology, policy_of(policy))
    sampler = _Sampler(sim)
    started = datetime.now(UTC)
    sim.run()
    tally = sim.counts.tally()
    result = Result(
        run=f"{campaign.campaign}-{policy}",
        campaign=campaign,
        targets=dict.fromkeys(sim.names, "simulated"),
        fleet={"policy": policy, **topology.model_dump(mode="json", exclude_defaults=True)},
        hardware=f"simulated: {topology.topology}",
        headend=metadata.version("headend"),
        started_at=started.isoformat(timespec="seconds"),
        seconds=sim.seconds,
        complete=sim.ended_by == "time",
        ended_by=sim.ended_by,
        series=tally.series(),
        slices=tally.slices(),
        errors=tally.errors(),
        events=sim.failures.happened,
        server=sampler.samples,
        generator=_PERFECT,
    )
    return Simulated(result, tally, sim.events)


class _Sampler:
    """Reads the models' servers now and then, as a live run reads Triton's metrics."""

    def __init__(self, sim: Simulation) -> None:
        self.samples: list[ServerSample] = []
        self._sim = sim
        self._servers = [
            server
            for pool, servers in sim.servers.items()
            if sim.topology.pools[pool].kind == "model"
            for server in servers.values()
        ]
        seconds = sim.campaign.seconds
        self._every = max(1.0, seconds / 120, seconds * len(self._servers) / SAMPLES)
        self._last = [(0, 0, 0.0, 0.0)] * len(self._servers)
        sim.at(self._every, self._read, None)

    def _read(self, _: None) -> None:
        for number, server in enumerate(self._servers):
            self._read_one(number, server)
        following = self._sim.now + self._every
        if following <= self._sim.campaign.seconds:
            self._sim.at(following, self._read, None)

    def _read_one(self, number: int, server: Server) -> None:
        now = (server.batches, server.served, server.waited_s, server.computed_s)
        batches, served, waited, computed = (b - a for a, b in zip(self._last[number], now, strict=True))
        self._last[number] = now
        if batches:
            self.samples.append(
                ServerSample(
                    at_s=self._sim.now,
                    site=self._sim.names[server.site],
                    model=server.pool,
                    per_second=served / self._every,
                    queue_ms=1e3 * waited / served,
                    compute_ms=1e3 * computed / batches,
                    batch=served / batches,
                    pending=len(server.queue),
                )
            )
