"""What a fleet has been: declarations with the digests of their bundles, numbered, newest last.

Files `$HEADEND_HOME/fleets/<fleet>/history/<number>.json`. The newest is what is served. A way back leads to
a revision of it, whatever the store calls current by then; and what has been rolled back stays away until the
store has something newer, or somebody asks for it again (`refused.json`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import ValidationError

from models.errors import HeadendError, UsageError
from models.files import write_atomic
from models.home import home
from models.schema import Strict
from models.store import open_store
from serving.fleet import Fleet

KEPT = 20
"""Revisions that are kept; older ones are removed."""
_M = TypeVar("_M", bound=Strict)
By = Literal["up", "apply", "rollback"]


class Revision(Strict):
    """One declaration as it was served."""

    number: int
    made: float
    """Seconds since the epoch."""
    by: By
    """The command that made it so."""
    fleet: Fleet
    bundles: dict[str, str]
    """Model to digest of its bundle."""

    def same_as(self, other: Self | None) -> bool:
        """Whether both would be served alike."""
        return other is not None and (self.fleet, self.bundles) == (other.fleet, other.bundles)


class _Refused(Strict):
    """Digests that were rolled back, by model, each with the reason."""

    models: dict[str, dict[str, str]] = {}


class History:
    """The revisions of one fleet."""

    def __init__(self, fleet: str) -> None:
        self.fleet = fleet
        self._path = home() / "fleets" / fleet / "history"

    def numbers(self) -> list[int]:
        """All that are kept, oldest first."""
        return sorted(int(path.stem) for path in self._path.glob("*.json") if path.stem.isdecimal())

    def read(self, number: int) -> Revision:
        """One of them. Raises `UsageError` when it is not kept."""
        if number not in self.numbers():
            kept = ", ".join(map(str, self.numbers())) or "none yet"
            raise UsageError(f"Fleet {self.fleet} has no revision {number}.", hint=f"Kept: {kept}.")
        return _read(Revision, self._file(number))

    def latest(self) -> Revision | None:
        """What is served; None before the first `headend up`."""
        numbers = self.numbers()
        return self.read(numbers[-1]) if numbers else None

    def before_latest(self) -> Revision:
        """The newest that would be served otherwise than the latest. Raises `UsageError` without one."""
        latest = self.latest()
        for number in reversed(self.numbers()):
            if not (found := self.read(number)).same_as(latest):
                return found
        raise UsageError(f"Fleet {self.fleet} has not been anything else yet: there is no way back.")

    def next(self, fleet: Fleet, bundles: Mapping[str, str], by: By) -> Revision:
        """What would be the next revision; nothing is written."""
        mine = {model: bundles[model] for model in sorted(fleet.models) if model in bundles}
        number = (self.numbers() or [0])[-1] + 1
        return Revision(number=number, made=time.time(), by=by, fleet=fleet, bundles=mine)

    def record(self, revision: Revision) -> None:
        """Make it the latest, unless the latest is the same."""
        if revision.same_as(self.latest()):
            return
        write_atomic(self._file(revision.number), revision.model_dump_json(indent=1).encode(), mode=0o600)
        for number in self.numbers()[:-KEPT]:
            self._file(number).unlink(missing_ok=True)

    def refused(self, model: str) -> dict[str, str]:
        """Digests of `model` that were rolled back, with the reasons."""
        return self._refused().models.get(model, {})

    def refuse(self, leaving: Revision, returning: Revision, reason: str) -> None:
        """Remember the bundles that `leaving` had and `returning` has not; those of `returning` are good."""
        models = self._refused().models
        for model, digest in leaving.bundles.items():
            if returning.bundles.get(model, digest) != digest:
                models = {**models, model: {**models.get(model, {}), digest: reason}}
        self._write_refused(models, returning)

    def accept(self, revision: Revision) -> None:
        """The bundles of `revision` are good, whatever was said of them."""
        self._write_refused(self._refused().models, revision)

    def _write_refused(self, models: Mapping[str, Mapping[str, str]], good: Revision) -> None:
        left = {
            model: {digest: why for digest, why in digests.items() if digest != good.bundles.get(model)}
            for model, digests in models.items()
        }
        refused = _Refused(models={model: digests for model, digests in left.items() if digests})
        write_atomic(self._path / "refused.json", refused.model_dump_json(indent=1).encode(), mode=0o600)

    def _refused(self) -> _Refused:
        path = self._path / "refused.json"
        return _read(_Refused, path) if path.exists() else _Refused()

    def _file(self, number: int) -> Path:
        return self._path / f"{number:06}.json"


def wanted_bundles(fleet: Fleet, models: Iterable[str], *, again: bool = False) -> dict[str, str]:
    """Digest of each model's bundle that is to be served: the store's current one.

    For one that was rolled back it is what is served instead, unless `again`. Models without any bundle are
    left out.
    """
    store, history = open_store(fleet.store), History(fleet.fleet)
    latest = history.latest()
    found = {}
    for model in models:
        digest = store.current(model)
        if latest and digest in history.refused(model) and not again:
            digest = latest.bundles.get(model, digest)
        if digest:
            found[model] = digest
    return found


def _read(model: type[_M], path: Path) -> _M:
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise HeadendError(f"{path} was not written by this version of headend: {error}") from error
