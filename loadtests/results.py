"""What a run leaves behind: one folder with `result.json`, which the verdict, comparisons and reports read.

Beside it lie `campaign.yaml`, `histograms.hlog` (HdrHistogram's log format), `requests.csv.gz` (a sample of
single requests), `report.html` and its pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from loadtests.campaign import Campaign
from loadtests.histogram import Histogram
from models.errors import DeclarationError
from models.files import write_atomic
from models.schema import Strict
from serving.fleet import Class

RESULT = "result.json"
Outcome = Literal[
    "ok", "wrong", "refused", "timeout", "connection", "client-error", "server-error", "not-sent"
]
"""`wrong`: answered, but not what should have been; `refused`: the fleet said that it is full (HTTP 429 or
503, gRPC UNAVAILABLE or RESOURCE_EXHAUSTED); `not-sent`: `limits.in_flight` were waiting already."""
Verdict = Literal["held", "missed", "invalid", "none"]
"""`invalid`: the generator was the bottleneck; `none`: the campaign has no objectives, or was interrupted."""


class Series(Strict):
    """All judged requests of one kind that took one way."""

    work: str
    class_: Class
    door: str
    """The site whose front door was asked, or the target's address."""
    site: str
    """The site that answered; empty where nobody did, or where it cannot be known."""
    outcomes: dict[Outcome, int]
    within: int
    """How many were right and within their class's p99 objective; without one, how many were right."""
    attempts: int
    """Attempts that front doors made for them, all together (Envoy's `x-envoy-attempt-count`); requests
    whose answer does not say count 1."""
    response: str
    """Encoded histogram of response times, from the intended start, of what was answered rightly."""
    service: str
    """Likewise of service times, from when the request was really sent."""
    edits: int = 0
    """Characters that differ from the transcripts, of `characters` in them."""
    characters: int = 0

    @property
    def sent(self) -> int:
        """Requests offered, whatever became of them."""
        return sum(self.outcomes.values())

    @property
    def right(self) -> int:
        """Requests answered rightly."""
        return self.outcomes.get("ok", 0)


class Slice(Strict):
    """A stretch of the run (warm-up included) for one class, door and answering site."""

    at_s: float
    """Its begin; a request belongs to where its intended start lies."""
    seconds: float
    class_: Class
    door: str
    site: str
    sent: int
    right: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    """Response times of what was right; 0 where nothing was."""


class ErrorKind(Strict):
    """Errors of one kind at one work, with one example."""

    outcome: Outcome
    work: str
    count: int
    example: str
    first_at_s: float


class Happened(Strict):
    """An event of the campaign, as it came about."""

    at_s: float
    do: str
    """In words: `kill hub triton`."""
    took_s: float
    error: str | None = None


class ServerSample(Strict):
    """What a site's Triton says of one model over the seconds before `at_s` (differences of counters)."""

    at_s: float
    site: str
    model: str
    per_second: float
    queue_ms: float
    """Mean wait of a request before it was computed."""
    compute_ms: float
    """Mean time of one execution, whatever its batch."""
    batch: float
    """Mean requests in one execution."""
    pending: float
    """Requests waiting at that moment."""


class Generator(Strict):
    """How well the load was generated."""

    workers: int
    cpu_share: float
    """Of one core, the busiest worker's."""
    lag_p99_ms: float
    """How late a worker's event loop wakes."""
    slip_p50_ms: float
    slip_p99_ms: float
    slip_max_ms: float
    """How long after their intended start requests were really sent."""
    pressure: float
    """Share of the time in which some task of the machine waited for a core."""
    steal: float
    problems: list[str] = []
    """Why the figures cannot be trusted; empty when they can."""


class Judged(Strict):
    """One objective and what came of it."""

    objective: str
    """`live p99`, `error rate` …"""
    limit: float
    value: float | None
    """None: there was nothing to measure it by."""
    unit: Literal["ms", "share", "count"]
    held: bool


class Result(Strict):
    """One run."""

    format: Literal[1] = 1
    run: str
    """Name of its folder."""
    campaign: Campaign
    targets: dict[str, str]
    """Front doors that were asked: site name to `host:port`."""
    fleet: dict[str, Any] | None
    """The fleet's declaration, where it is known."""
    hardware: str
    headend: str
    """headend's version."""
    started_at: str
    """ISO 8601, UTC."""
    seconds: float
    """How long it ran."""
    complete: bool
    """False: it was interrupted, or a limit ended it."""
    ended_by: str
    """`time`, `interrupt`, or the limit's name."""
    series: list[Series]
    slices: list[Slice]
    errors: list[ErrorKind] = []
    events: list[Happened] = []
    server: list[ServerSample] = []
    generator: Generator
    judged: list[Judged] = []
    verdict: Verdict = "none"

    def histogram(
        self, kind: Literal["response", "service"], where: Callable[[Series], bool] = lambda _: True
    ) -> Histogram:
        """Latencies of all series that `where` picks."""
        return Histogram.sum(Histogram.decode(getattr(one, kind)) for one in self.series if where(one))

    @property
    def sent(self) -> int:
        """Judged requests that were offered."""
        return sum(one.sent for one in self.series)

    @property
    def judged_s(self) -> float:
        """Seconds that were judged."""
        return max(0.0, self.seconds - self.campaign.warm_up_s)

    def save(self, folder: Path) -> Path:
        """Write it to `folder` in one step."""
        path = folder / RESULT
        write_atomic(path, self.model_dump_json(indent=1, by_alias=True).encode())
        return path

    @classmethod
    def load(cls, folder: Path) -> Result:
        """Read it from its folder, or from the file itself. Raises `DeclarationError`."""
        path = folder / RESULT if folder.is_dir() else folder
        try:
            return cls.model_validate_json(path.read_text("utf-8"))
        except OSError as error:
            raise DeclarationError(
                f"{path}: {error.strerror or error}", hint="Give a folder that `headend loadtest run` wrote."
            ) from error
        except (UnicodeDecodeError, ValidationError) as error:
            raise DeclarationError(f"{path} is not a load test's result: {error}") from error


def total(series: Iterable[Series], outcome: Outcome) -> int:
    """Requests with this outcome."""
    return sum(one.outcomes.get(outcome, 0) for one in series)
