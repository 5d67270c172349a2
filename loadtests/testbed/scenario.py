"""`scenario.yaml`: sites, the links between them, what is asked of them, and what happens meanwhile."""

from __future__ import annotations

from collections.abc import Collection
from importlib import resources
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from loadtests.campaign import Label, NotNegative, Positive, Share
from models.card import Name
from models.errors import DeclarationError, UsageError
from models.schema import Declaration, Strict
from serving.fleet import Class

Policy = Literal[
    "plan",
    "local-only",
    "round-robin",
    "least-request",
    "waterfall",
    "static",
    "weighted-round-robin",
    "load-aware-locality",
    "slate-like",
]
ENVOYS: tuple[Policy, ...] = ("least-request", "weighted-round-robin", "load-aware-locality")
"""Those by which Envoy itself chooses between all sites."""
Part = Literal["triton", "envoy", "agent", "control"]
"""`control`: the agent and its site's supervisor, which would start it again: all of a site's Python that is
not inside Triton."""


class Compute(Strict):
    """A model that takes a declared time. It answers the sum of its input's bytes, so answers are checked."""

    mean_ms: Positive
    """Mean time of one execution of one row at a site of speed 1, milliseconds; log-normally distributed."""
    cv: NotNegative = 0.5
    """Coefficient of variation of that time; 0: always the same."""
    bytes: int = Field(default=1024, ge=16, le=4 << 20)
    """Size of one row of a request."""
    max_batch: int = Field(default=1, ge=1, le=64)
    """Requests that Triton may join in one execution."""
    row_share: Share = 1.0
    """What each row beyond the first adds, as a share of the first: 0 is a perfect GPU, 1 gains nothing."""
    max_queue: int = Field(default=64, ge=1)
    """Requests that wait at a site beyond those worked on, before its front door sends them elsewhere; the
    default is a card's."""
    queue_timeout_ms: int = Field(default=30_000, ge=1)
    """As the card says it: a tenth of it is how long a live request may wait."""


class Size(Strict):
    """How much one site can do, and send."""

    copies: int = Field(default=1, ge=1, le=4)
    """Executions at the same time."""
    speed: Positive = 1.0
    """2: each takes half the declared time."""
    uplink_mbit_s: Positive | None = None
    """What its own line to all others carries each way, megabits per second, and is declared to carry; None:
    as much as its links."""


class Link(Strict):
    """The way between two sites, the same in both directions."""

    rtt_ms: NotNegative = 10.0
    """Round trip, milliseconds."""
    jitter_ms: NotNegative = 0.0
    """Standard deviation of one direction's delay, milliseconds; packets keep their order."""
    loss: Share = 0.0
    """Share of the packets that is lost, in each direction."""
    mbit_s: Positive = 1000.0
    """Rate of each direction, megabits per second; what is too fast waits, up to `queue_ms`."""
    queue_ms: Positive = 200.0
    """What would wait longer than this is dropped."""


class Fault(Strict):
    """Something that goes wrong, and for how long."""

    do: Literal["sigkill", "sigstop", "link-down", "black-hole", "loss", "one-way"]
    """`link-down`: the site's interface goes down; `black-hole`: what is sent to or from the site vanishes;
    `loss`: 20% of it does; `one-way`: what the site sends vanishes, what is sent to it arrives."""
    site: Name | None = None
    """None: every site."""
    part: Part | None = None
    """What gets the signal."""
    at_s: NotNegative
    for_s: Positive | None = None
    """How long it lasts; a killed part is started again by its supervisor."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.do.startswith("sig") != (self.part is not None):
            raise ValueError("signals need a `part`, and only they take one")
        if (self.do == "sigkill") == (self.for_s is not None):
            raise ValueError("all faults but `sigkill` need `for_s`, and it takes none")
        return self

    @property
    def words(self) -> str:
        """`sigstop hub envoy`."""
        return " ".join(filter(None, (self.do, self.site or "every site's", self.part)))

    def strikes(self, site: str) -> bool:
        """Whether it goes wrong there."""
        return self.site in (None, site)


class Stream(Strict):
    """Requests for one model in one class."""

    model: Name
    class_: Class = Field(default="interactive", alias="class")
    share: Positive = 1.0
    """Of the cell's requests, relative to the other streams'."""
    p99_ms: Positive
    """The objective."""
    client: Literal["http", "triton-grpc"] = "http"
    """Over gRPC a client that gives up takes its request along; over HTTP Triton answers it to nobody."""
    timeout_s: Positive = 15.0
    """When the client gives up; in figures a request that failed took so long."""


class Cell(Strict):
    """One campaign: a load, where it comes in, what goes wrong, and the policies that take turns."""

    name: Label
    load: Positive
    """Offered load as a share of the capacity of the sites in `of`."""
    of: list[Name] = []
    """By default all sites; for faults: those that remain."""
    ingress: dict[Name, Positive] = {}
    """Weights of the front doors where requests come in; by default all alike."""
    moving: bool = False
    """The weights move on from site to site, all the way round in every stretch."""
    arrivals: Literal["poisson", "trace"] = "poisson"
    seconds: Positive
    """How long one stretch is."""
    calm_s: NotNegative = 0.0
    """After each stretch nothing arrives for so long: what one policy has piled up is not the next one's."""
    rounds: int = Field(default=1, ge=1)
    """How often each policy has its turn."""
    policies: list[Policy] = []
    """By default what the fleet does by itself."""
    faults: list[Fault] = []
    warm_up_s: NotNegative = 2.0
    """The start of each stretch that is not counted."""

    def shortened(self, seconds: float) -> Self:
        """Its short form: one round of shorter stretches, in which faults come earlier and last less."""
        squeeze = seconds / self.seconds
        faults = [
            fault.model_copy(
                update={"at_s": fault.at_s * squeeze, "for_s": fault.for_s and fault.for_s * squeeze}
            )
            for fault in self.faults
        ]
        return self.model_copy(update={"seconds": seconds, "rounds": 1, "faults": faults})


class Scenario(Declaration):
    """The whole declaration."""

    scenario: Label
    title: str
    """One sentence for the head of the report."""
    sites: dict[Name, Size] = Field(min_length=2, max_length=16)
    models: dict[Name, Compute] = Field(min_length=1)
    link: Link = Link()
    """Between sites that `links` does not name."""
    links: dict[str, Link] = {}
    """By pair, as `hub-van`."""
    traffic: list[Stream] = Field(min_length=1)
    cells: list[Cell] = Field(min_length=1)
    short: list[Label] = []
    """Cells of the short form."""
    short_s: Positive = 12.0
    """Seconds of a stretch in the short form."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        pairs = {f"{a}-{b}" for a in self.sites for b in self.sites if a != b}
        if unknown := set(self.links) - pairs:
            raise ValueError(f"`{min(unknown)}` is no pair of sites; write it as `{min(pairs)}`")
        if unknown := {stream.model for stream in self.traffic} - set(self.models):
            raise ValueError(f"traffic asks for `{min(unknown)}`, which is not among the models")
        if unknown := set(self.short) - {cell.name for cell in self.cells}:
            raise ValueError(f"`short` names `{min(unknown)}`, which is not a cell")
        for cell in self.cells:
            if len(self.sites) < 3 and (those := set(cell.policies) & set(ENVOYS)):
                raise ValueError(f"cell `{cell.name}`: `{min(those)}` needs three sites to choose between")
            named = {*cell.of, *cell.ingress, *(fault.site for fault in cell.faults if fault.site)}
            if unknown := named - set(self.sites):
                raise ValueError(f"cell `{cell.name}` names `{min(unknown)}`, which is not a site")
        return self

    def cell(self, name: str) -> Cell:
        """The cell of this name. Raises `UsageError`."""
        for cell in self.cells:
            if cell.name == name:
                return cell
        raise UsageError(
            f"Scenario {self.scenario} has no cell `{name}`.",
            hint=f"Its cells: {', '.join(cell.name for cell in self.cells)}.",
        )

    def between(self, one: str, other: str) -> Link:
        """The link of two sites."""
        return self.links.get(f"{one}-{other}") or self.links.get(f"{other}-{one}") or self.link

    def capacity(self, site: str, model: str) -> float:
        """Requests a second of `model` that `site` can answer, if it answers nothing else."""
        size, compute = self.sites[site], self.models[model]
        rows = compute.max_batch
        seconds = compute.mean_ms / 1e3 / size.speed * (1 + compute.row_share * (rows - 1))
        return size.copies * rows / seconds

    def rates(self, cell: Cell) -> list[float]:
        """Requests a second of each stream: together `load` of what the cell's sites can do."""
        most = cell.load * self.most(cell.of or list(self.sites))
        return [most * share for share in self._shares()]

    def most(self, sites: Collection[str]) -> float:
        """Requests a second of the whole traffic, as it is mixed, that `sites` can answer together."""
        # A request of one model costs the sites its part of their time, whatever the others cost.
        busy = sum(
            share / sum(self.capacity(site, stream.model) for site in sites)
            for share, stream in zip(self._shares(), self.traffic, strict=True)
        )
        return 1 / busy

    def _shares(self) -> list[float]:
        total = sum(stream.share for stream in self.traffic)
        return [stream.share / total for stream in self.traffic]


def shipped() -> dict[str, Path]:
    """Scenarios that come with headend, by name."""
    folder = Path(str(resources.files("loadtests.testbed") / "scenarios"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find(name: str) -> Scenario:
    """A shipped scenario by its name, or a file by its path. Raises `DeclarationError`."""
    known = shipped()
    path = known.get(name, Path(name))
    if not path.exists():
        raise DeclarationError(
            f"there is no scenario `{name}`", hint=f"Shipped: {', '.join(known)}; or give a file's path."
        )
    return Scenario.load(path)
