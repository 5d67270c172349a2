"""`campaign.yaml`: a declared load test. What is sent, when, what happens meanwhile, and what must hold."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from models.card import Name
from models.errors import DeclarationError
from models.schema import Declaration, Strict
from serving.fleet import AppName, Class

Client = Literal["openai", "triton-grpc", "triton-http", "http"]
"""The client library that speaks: `openai`'s, `tritonclient`'s two, or bare HTTP for the highest rates."""
Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class Work(Strict):
    """One kind of request in the mix."""

    name: Label
    """What it is called in reports."""
    app: AppName | None = None
    model: Name | None = None
    """Either an app or a model."""
    client: Client
    input: Label
    """What is sent: a name from `headend loadtest list --inputs`. Its answers are checked."""
    batch: int = Field(default=1, ge=1, le=64)
    """Models: rows in one request, for payload sizes."""
    weight: Positive = 1
    """Its share of the mix, relative to the others."""
    class_: Class = Field(default="interactive", alias="class")
    timeout_s: Positive = 60
    """The client gives up after this long; that is an error."""

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.app is None) == (self.model is None):
            raise ValueError(f"work `{self.name}` needs either `app` or `model`")
        if self.app and self.client not in ("openai", "http"):
            raise ValueError(f"work `{self.name}`: an app speaks HTTP: use client openai or http")
        if self.model and self.client == "openai":
            raise ValueError(
                f"work `{self.name}`: a model speaks the Open Inference Protocol: "
                "use client triton-grpc, triton-http or http"
            )
        if self.app and self.batch != 1:
            raise ValueError(f"work `{self.name}`: `batch` is for models")
        return self

    @property
    def pool(self) -> str:
        """The pool that answers it."""
        return self.app or self.model or ""


class _Stream(Strict):
    site: Name | None = None
    """The front door where it arrives; by default spread evenly over all of the fleet's."""
    work: list[Label] | None = None
    """Which of the workload arrives; by default all of it, by weight."""
    from_s: NotNegative = 0
    """When it begins."""
    until_s: Positive | None = None
    """When it ends; by default with the campaign."""
    seed: int | None = Field(default=None, ge=0)
    """Streams alike but for when they begin have the same arrivals, each from its own start, where they have
    the same seed; by default each has arrivals of its own."""


class Constant(_Stream):
    """One request every 1/rate seconds."""

    kind: Literal["constant"]
    rate: Positive
    """Requests a second, here and below."""


class Poisson(_Stream):
    """Independent arrivals at one mean rate."""

    kind: Literal["poisson"]
    rate: Positive


class Ramp(_Stream):
    """Poisson arrivals whose rate goes from one value to another in a straight line."""

    kind: Literal["ramp"]
    start: NotNegative
    end: NotNegative


class Step(_Stream):
    """Poisson arrivals whose rate stays at each of these values for an equal part of the time."""

    kind: Literal["step"]
    rates: list[NotNegative] = Field(min_length=1)


class Spike(_Stream):
    """Poisson arrivals at `rate`, and at `peak` from `at_s` for `for_s` seconds (of the campaign)."""

    kind: Literal["spike"]
    rate: NotNegative
    peak: Positive
    at_s: NotNegative
    for_s: Positive


class Day(_Stream):
    """Poisson arrivals on a day's curve: a raised cosine, lowest at the start, highest in the middle."""

    kind: Literal["day"]
    low: NotNegative
    high: Positive
    day_s: Positive
    """How long a day lasts; a real day squeezed into the campaign."""


class Trace(_Stream):
    """Recorded arrival times."""

    kind: Literal["trace"]
    trace: Label
    """A name from `headend loadtest list --traces`."""
    rate_scale: Positive = 1
    """2: every second recorded arrival twice as often, in the same time (arrivals repeated or left out)."""
    time_scale: Positive = 1
    """0.5: twice as fast, so twice the rate in half the time."""


Arrival = Annotated[Constant | Poisson | Ramp | Step | Spike | Day | Trace, Field(discriminator="kind")]


class Event(Strict):
    """Something that happens at a local fleet while the load runs."""

    at_s: NotNegative
    do: Literal["kill", "cut", "restore"]
    """`kill`: SIGKILL to a part, which its supervisor starts again; `cut`: the whole site goes down;
    `restore`: it comes up again."""
    site: Name
    part: Literal["triton", "serve", "envoy", "agent"] | None = None
    """Which part is killed."""

    @model_validator(mode="after")
    def _part_where_needed(self) -> Self:
        if (self.do == "kill") != (self.part is not None):
            raise ValueError("`kill` needs a `part`, and only `kill` takes one")
        return self


class Latency(Strict):
    """Response time from the intended start, milliseconds."""

    p50_ms: Positive | None = None
    p99_ms: Positive | None = None


class Objectives(Strict):
    """What must hold over the whole campaign."""

    classes: dict[Class, Latency] = {}
    error_rate: Share | None = None
    """Most of the requests that may fail, wrong answers included."""
    goodput: Share | None = None
    """Least share of the offered requests that is answered rightly within its class's p99 objective."""
    character_error_rate: NotNegative | None = None
    """Most character errors that subtitles may have against the transcripts."""


class Limits(Strict):
    """Where a campaign ends by itself, whatever else it says."""

    requests: int = Field(default=1_000_000, ge=1)
    in_flight: int = Field(default=1_000, ge=1)
    """Requests waiting for an answer, per worker; one more is not sent, and counts as an error."""
    spend: Positive | None = None
    """In the currency of `price`."""
    price_per_1000: dict[str, NotNegative] = {}
    """What 1,000 requests cost, by pool; others are free."""


class Campaign(Declaration):
    """The whole declaration."""

    campaign: Label
    title: str
    """One sentence for the head of the report."""
    seed: int = 1
    """The same seed gives the same arrivals and the same mix."""
    seconds: float = Field(gt=0, le=7 * 86_400)
    warm_up_s: NotNegative = 0
    """The first seconds are sent but not judged."""
    workload: list[Work] = Field(min_length=1)
    arrivals: list[Arrival] = Field(min_length=1)
    events: list[Event] = []
    objectives: Objectives = Objectives()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [work.name for work in self.workload]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two works are called `{sorted(twice)[0]}`")
        for arrival in self.arrivals:
            if unknown := set(arrival.work or ()) - set(names):
                raise ValueError(f"arrivals of `{sorted(unknown)[0]}`, which the workload does not have")
            if (arrival.until_s or self.seconds) <= arrival.from_s:
                raise ValueError(f"{arrival.kind} arrivals end before they begin")
        if self.warm_up_s >= self.seconds:
            raise ValueError("nothing is left after `warm_up_s`")
        if late := [event for event in self.events if event.at_s >= self.seconds]:
            raise ValueError(f"an event at {late[0].at_s:g} s comes after the end")
        if self.limits.spend and not self.limits.price_per_1000:
            raise ValueError("`spend` needs `price_per_1000`")
        return self

    def work(self, name: str) -> Work:
        """The work of this name."""
        return next(work for work in self.workload if work.name == name)

    def objective_ms(self, class_: Class) -> float | None:
        """The p99 objective of a class, milliseconds: what goodput counts by."""
        return self.objectives.classes[class_].p99_ms if class_ in self.objectives.classes else None


def shipped() -> dict[str, Path]:
    """Campaigns that come with headend, by name."""
    folder = Path(str(resources.files("loadtests") / "campaigns"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find(name: str) -> Campaign:
    """A shipped campaign by its name, or a file by its path. Raises `DeclarationError`."""
    known = shipped()
    if name in known:
        return Campaign.load(known[name])
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") and not path.exists():
        raise DeclarationError(
            f"there is no campaign `{name}`", hint=f"Shipped: {', '.join(known)}; or give a file's path."
        )
    return Campaign.load(path)
