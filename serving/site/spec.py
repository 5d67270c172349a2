"""What a supervisor is told to run, and what it reports: two small JSON files, replaced atomically.

In a site's directory `$HEADEND_HOME/fleets/<fleet>/<site>/`: `spec.json` is written by `headend up`,
`state.json` by the supervisor, and `lock` is held (flock) by the supervisor for as long as it lives. The
lock is the proof: a state file whose lock is free was left by a supervisor that was killed.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self, TypeVar

from pydantic import BaseModel, ValidationError

from models.errors import HeadendError
from models.files import write_atomic
from models.home import home
from models.schema import Strict
from serving.site.machine import State

_M = TypeVar("_M", bound=BaseModel)


class PartSpec(Strict):
    """One supervised part of a site."""

    name: str
    argv: list[str]
    env: dict[str, str] = {}
    """Added to the supervisor's own environment."""
    ports: dict[str, int] = {}
    """What it listens on, by purpose."""
    ready: str
    """URL that answers 200 when the part can serve."""
    alive: str = ""
    """URL that answers 200 while the part need not be restarted; by default `ready` itself."""
    start_limit_s: float = 240.0
    """From start to ready, before it counts as failed."""
    unready_limit_s: float = 60.0
    """Not alive for this long, it is restarted."""
    grace_s: float = 15.0
    """From SIGTERM to SIGKILL."""
    fingerprint: str = ""
    """Digest of what the part was derived from: while it is the same, a running part is left alone."""
    shm_prefix: str = ""
    """Its files in /dev/shm begin with this; what a killed part leaves there is removed."""


class SiteSpec(Strict):
    """All parts of a site, in the order they start; they end in the opposite order."""

    fleet: str
    site: str
    front_door: str
    parts: list[PartSpec]
    revision: str = ""
    """Names this spec; the supervisor repeats it in its state when it has acted on it."""
    derived: dict[str, str] = {}
    """What was written for the site, each with the digest of what it was derived from."""

    @property
    def ports(self) -> dict[str, int]:
        """All ports, as `<part>-<purpose>`."""
        return {f"{part.name}-{purpose}": port for part in self.parts for purpose, port in part.ports.items()}


class PartState(Strict):
    """One part as the supervisor sees it."""

    name: str
    state: State
    pid: int | None = None
    keeper: int | None = None
    """The process whose descendants are all of the part's processes."""
    ports: dict[str, int] = {}
    restarts: int = 0
    since: float = 0.0
    """Seconds since the epoch."""
    error: str = ""


class SiteState(Strict):
    """A site as its supervisor sees it."""

    fleet: str
    site: str
    front_door: str
    supervisor: int
    """The supervisor's pid; 0 when it has ended."""
    revision: str = ""
    """That of the spec which was acted on last."""
    parts: list[PartState]

    @property
    def state(self) -> State:
        """The site's own state: that of the part that is worst off."""
        found = {part.state for part in self.parts}
        return next((state for state in _WORST_FIRST if state in found), State.STOPPED)

    def stopped(self, error: str = "") -> Self:
        """The same site when its supervisor is gone."""
        parts = [
            part.model_copy(
                update={"state": State.STOPPED, "pid": None, "keeper": None, "error": error or part.error}
            )
            for part in self.parts
        ]
        return self.model_copy(update={"parts": parts, "supervisor": 0})


_WORST_FIRST = (
    State.FAILED,
    State.RESTARTING,
    State.STARTING,
    State.UNREADY,
    State.STOPPED,
    State.READY,
)


class SiteDirectory:
    """The files of one running site."""

    def __init__(self, fleet: str, site: str) -> None:
        self.fleet, self.site = fleet, site
        self.path = home() / "fleets" / fleet / site

    def create(self) -> None:
        """Make the directory, private to its owner."""
        self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def logs(self) -> Path:
        """Directory of the logs, one file per part and `supervisor.log`."""
        return self.path / "logs"

    def log(self, part: str) -> Path:
        """The log of one part."""
        return self.logs / f"{part}.log"

    def read_spec(self) -> SiteSpec | None:
        """The spec last written, or None."""
        return _read(SiteSpec, self.path / "spec.json")

    def write_spec(self, spec: SiteSpec) -> None:
        """Replace the spec."""
        _write(self.path / "spec.json", spec)

    def write_state(self, state: SiteState) -> None:
        """Replace the state; the supervisor alone does."""
        _write(self.path / "state.json", state)

    def read_state(self) -> SiteState | None:
        """The state as it is now; what a dead supervisor left is read as `stopped`. None: never started."""
        state = _read(SiteState, self.path / "state.json")
        if state is None or state.supervisor == 0 or self.supervised():
            return state
        state = _read(SiteState, self.path / "state.json") or state  # it may have ended properly just now
        return state if state.supervisor == 0 else state.stopped("its supervisor was killed")

    def supervised(self) -> bool:
        """Whether a supervisor lives."""
        try:
            file = (self.path / "lock").open("rb")
        except FileNotFoundError:
            return False
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the supervisor's lock. Raises `HeadendError` when another supervisor has it."""
        with (self.path / "lock").open("a") as file:
            _lock(file, f"site {self.site} of fleet {self.fleet} has a supervisor already")
            yield


def _lock(file: IO[str], refusal: str) -> None:
    for attempt in range(10):
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # `supervised` holds it shared for an instant while it looks.
            if attempt == 9:
                raise HeadendError(refusal, hint="See `headend status`.") from None
            time.sleep(0.02)


def _write(path: Path, value: BaseModel) -> None:
    write_atomic(path, value.model_dump_json(indent=1).encode(), mode=0o600)


def _read(model: type[_M], path: Path) -> _M | None:
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise HeadendError(
            f"{path} was not written by this version of headend.", hint="Remove it after `headend down`."
        ) from error
