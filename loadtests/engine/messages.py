"""What the generator's processes and their parent say to each other: one JSON document a line.

The parent writes a `Job` to a process's standard input, and later `STOP`. What a process has to say goes to
a pipe of its own, for libraries print what they like.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from loadtests.campaign import Campaign

Role = Literal["alone", "master", "worker"]
STOP = "stop"
LOST = "lost"
"""With a worker's number: it died, nothing is to be waited for."""
PROGRESS_EVERY_S = 0.5


@dataclass(frozen=True)
class Job:
    """What one process is to do."""

    role: Role
    declaration: dict[str, Any]
    """The campaign, as JSON."""
    doors: dict[str, str]
    worker: int = 0
    workers: int = 1
    web: bool = False
    master_port: int = 0
    """Where locust's master listens on 127.0.0.1; workers only."""

    @cached_property
    def campaign(self) -> Campaign:
        """The declaration, read."""
        return Campaign.model_validate(self.declaration)


@dataclass
class Progress:
    """What happened at one worker since it last said so."""

    kind: Literal["progress"] = "progress"
    worker: int = 0
    sent: int = 0
    """Starts that came due."""
    outcomes: dict[str, int] = field(default_factory=dict)
    sites: dict[str, int] = field(default_factory=dict)
    """Right answers by the site that gave them."""
    response_us: dict[str, list[int]] = field(default_factory=dict)
    """Response times of right answers by class."""
    in_flight: int = 0
    lag_ms: float = 0.0
    """Largest lag of the event loop meanwhile."""
    slip_ms: float = 0.0
    """Largest slip meanwhile."""


@dataclass(frozen=True)
class Vitals:
    """How one worker was. Histograms are encoded."""

    cpu_share: float
    lag: str
    slip: str
    late: int
    """Starts that it never got to."""


@dataclass(frozen=True)
class Done:
    """All that one worker has counted."""

    worker: int
    ended_by: str
    """`time`, `stop`, or a limit's name."""
    seconds: float
    tally: dict[str, Any]
    vitals: dict[str, Any]
    kind: Literal["done"] = "done"


def encode(message: Any) -> str:
    """One line. Dataclasses become objects; bytes survive."""
    return json.dumps(message if isinstance(message, Mapping) else asdict(message), default=_bytes) + "\n"


def decode(line: str) -> dict[str, Any]:
    """What `encode` was given, dataclasses as mappings."""
    found: dict[str, Any] = json.loads(line, object_hook=_object)
    return found


def _bytes(value: bytes) -> dict[str, str]:
    return {"base64": b64encode(value).decode("ascii")}


def _object(value: dict[str, Any]) -> Any:
    return b64decode(value["base64"]) if value.keys() == {"base64"} else value
