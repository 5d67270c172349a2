"""`topology.yaml`: the fleet that the simulator plays: sites, what they serve, how fast, how far apart."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import Field, model_validator

from loadtests.campaign import Label, NotNegative, Positive
from loadtests.sim.times import Times
from models.card import Name
from models.schema import Declaration, Strict
from serving.router.health import HEALTH_INTERVAL
from serving.router.view import Pool

PART_OF: dict[str, Literal["triton", "serve"]] = {"model": "triton", "app": "serve"}
"""The part of a site that answers a kind of pool."""


class SimulatedPool(Strict):
    """A batching server: how one site answers one app or model."""

    kind: Literal["model", "app"] = "model"
    instances: int = Field(default=1, ge=1)
    """Executions at a time: a model's copies; an app's replicas times its `concurrency`."""
    max_batch: int = Field(default=1, ge=1)
    """Most rows in one execution."""
    queue_delay_ms: NotNegative = 0
    """How long the first request of a batch waits for others."""
    waiting: int = Field(default=64, ge=0)
    """Requests that may wait beyond what is worked on; one more is refused."""
    service: dict[int, Times] = Field(min_length=1)
    """Time of one execution by its rows; other sizes follow from these."""
    inputs: dict[Label, dict[int, Times]] = {}
    """Likewise for single inputs (a work's `input`) that take another time than the rest. A batch takes the
    time of its first request's."""
    overhead: Times | None = None
    """What a request takes beside its execution (client, front door, codecs); it keeps nobody waiting."""
    cores: Positive = 1
    """Cores that one execution keeps busy; counts where sites share a `machine`."""
    request_kib: NotNegative = 0
    response_kib: NotNegative = 0

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        for service in (self.service, *self.inputs.values()):
            if not service or min(service) < 1:
                raise ValueError("times are by rows of an execution: 1 or more")
        return self

    @property
    def room(self) -> int:
        """Requests that a site takes at a time, waiting ones included; as a front door counts."""
        return self.instances * self.max_batch + self.waiting


class SimulatedSite(Strict):
    """One site."""

    pools: list[Name] | None = None
    """What it serves; by default everything."""
    speed: Positive = 1
    """2: every execution takes half its time here."""
    scale: int = Field(default=1, ge=1)
    """3: three times as many instances here."""
    machine: Label | None = None
    """The machine whose cores it shares with others; by default executions do not slow each other."""
    uplink_mbit_s: Positive | None = None
    """Its one line to all other sites, in each direction; `sites.*.uplink` of the fleet file."""


class Machine(Strict):
    """Cores that are shared: when executions want more than there are, all slow down alike."""

    cores: Positive


class Link(Strict):
    """What lies between two sites, in both directions."""

    between: tuple[Name, Name]
    rtt_ms: NotNegative
    mbit_s: Positive | None = None


class Network(Strict):
    """Between sites; inside a site there is none."""

    rtt_ms: NotNegative = 1
    """Round trip between any two sites that `links` does not name."""
    mbit_s: Positive = 1_000
    links: list[Link] = []

    @cached_property
    def _by_ends(self) -> dict[frozenset[str], Link]:
        return {frozenset(link.between): link for link in self.links}

    def rtt_s(self, a: str, b: str) -> float:
        """Round trip between two sites, seconds."""
        if a == b:
            return 0.0
        link = self._by_ends.get(frozenset((a, b))) if self.links else None
        return (link.rtt_ms if link else self.rtt_ms) / 1e3

    def bytes_per_s(self, a: str, b: str) -> float:
        """What the way between two sites carries."""
        link = self._by_ends.get(frozenset((a, b)))
        return (link.mbit_s if link and link.mbit_s else self.mbit_s) * 1e6 / 8


class Failures(Strict):
    """How fast front doors learn that a site is gone, and parts come back."""

    connect_s: NotNegative = 0
    """How long an attempt at what is down takes to fail, beyond the round trip: 0 where it is refused, 1 (the
    front doors' timeout for connecting) where a pulled plug is silent."""
    probe_s: Positive = float(HEALTH_INTERVAL.rstrip("s"))
    """Time between two probes; two that fail take a site out, one that passes takes it in."""
    eject_after: int = Field(default=3, ge=1)
    """Attempts in a row that failed without an answer, after which a door leaves a site out …"""
    eject_s: NotNegative = 5
    """… for so long."""
    restart_s: dict[Literal["site", "triton", "serve", "envoy", "agent"], NotNegative] = {}
    """From the kill, or from `restore`, until it serves again; see `RESTART_S`."""

    def back_s(self, part: Literal["site", "triton", "serve", "envoy", "agent"]) -> float:
        """How long `part` takes to serve again."""
        return self.restart_s.get(part, RESTART_S[part])


RESTART_S = {"site": 24.0, "triton": 10.0, "serve": 22.0, "envoy": 1.2, "agent": 2.5}
"""What the demo fleet takes on two cores (`python -m loadtests.bench startup`)."""


class Topology(Declaration):
    """The whole declaration."""

    topology: Label
    pools: dict[Name, SimulatedPool] = Field(min_length=1)
    sites: dict[Name, SimulatedSite] = Field(min_length=1)
    machines: dict[Label, Machine] = {}
    network: Network = Network()
    failures: Failures = Failures()
    telemetry_s: NotNegative = 1
    """Age of what doors know of other sites' queues: they hear of them once in so many seconds; 0: always."""
    concurrency: int = Field(default=256, ge=1)
    """Requests in flight per pool through one front door (`limits.concurrency` of the fleet)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, site in self.sites.items():
            if unknown := set(site.pools or ()) - set(self.pools):
                raise ValueError(f"site `{name}` serves `{sorted(unknown)[0]}`, which is not among the pools")
            if site.machine and site.machine not in self.machines:
                raise ValueError(f"site `{name}` is on machine `{site.machine}`, which is not declared")
        for link in self.network.links:
            if unknown := set(link.between) - set(self.sites):
                raise ValueError(f"a link ends at `{sorted(unknown)[0]}`, which is not a site")
        return self

    def serves(self, site: str, pool: str) -> bool:
        """Whether `site` answers `pool`."""
        chosen = self.sites[site].pools
        return chosen is None or pool in chosen

    def sites_of(self, pool: str) -> list[str]:
        """Sites that answer `pool`, as declared."""
        return [site for site in self.sites if self.serves(site, pool)]

    def missing(self, pools: Iterable[str]) -> list[str]:
        """Those of `pools` that no site answers."""
        return [pool for pool in dict.fromkeys(pools) if pool not in self.pools or not self.sites_of(pool)]

    def at(self, site: str, pool: str) -> SimulatedPool:
        """`pool` as it is at `site`."""
        declared = self.pools[pool]
        return declared.model_copy(update={"instances": declared.instances * self.sites[site].scale})

    def bytes_per_s(self, a: str, b: str) -> float:
        """What the way between two sites carries, their own lines included."""
        lines = [line for site in (a, b) if (line := self.sites[site].uplink_mbit_s)]
        return min([self.network.bytes_per_s(a, b), *(line * 1e6 / 8 for line in lines)])

    def router_pool(self, pool: str) -> Pool:
        """As the router calls it."""
        return Pool(self.pools[pool].kind, pool)

    def to_yaml(self) -> str:
        """The declaration as a file."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_defaults=True), sort_keys=False)


def shipped() -> dict[str, Path]:
    """Topologies that come with headend, by name."""
    folder = Path(str(resources.files("loadtests.sim") / "topologies"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
