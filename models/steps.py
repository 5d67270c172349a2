"""Declared steps, each in a directory of its own, done once for the same inputs and resumed after a kill.

A step's output directory appears at once when the step has ended, with `step.json` in it: what went in
(digest), what came out (digest per file), how long it took and what was done. A step whose inputs are the
same and whose outputs are untouched is kept; every other is done anew, from nothing.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from models.errors import BuildError, HeadendError
from models.files import canonical_json, digest, new_directory, tree_digests

RECORD = "step.json"
Status = Literal["running", "done", "kept", "failed"]


@dataclass(frozen=True)
class Event:
    """What a step is at."""

    model: str
    step: str
    status: Status
    detail: str = ""
    fraction: float | None = None
    seconds: float = 0.0


Listener = Callable[[Event], None]
Say = Callable[[str, float | None], None]


@dataclass(frozen=True)
class Step:
    """One link of the chain."""

    name: str
    requires: tuple[str, ...]
    """Steps whose outputs it reads."""
    inputs: Any
    """What else its result depends on, as JSON: parts of the card, recipe, versions of tools."""
    run: Callable[[Path, Say], str]
    """Fill the given empty directory; return what was done, in a sentence."""
    holds: Callable[[], bool] = lambda: True
    """Whether what it did outside its directory is still there."""


class Chain:
    """Runs steps in order under one directory."""

    def __init__(self, model: str, root: Path, listener: Listener) -> None:
        self._model, self._root, self._listener = model, root, listener
        self._outputs: dict[str, dict[str, str]] = {}
        self.records: list[dict[str, Any]] = []

    def output(self, step: str) -> Path:
        """Where a step's results are."""
        return self._root / step

    def do(self, step: Step) -> None:
        """Do or keep one step. Raises what the step raises, as `BuildError` where it is no `HeadendError`;
        the step then counts as not done.
        """
        key = digest(
            canonical_json([step.name, step.inputs, {name: self._outputs[name] for name in step.requires}])
        )
        kept = self._kept(step, key)
        record = kept or self._fresh(step, key)
        self._outputs[step.name] = record["outputs"]
        status: Status = "kept" if kept else "done"
        self.records.append({**record, "status": status})
        self._tell(step, status, record["did"], seconds=0.0 if kept else record["seconds"])

    def _kept(self, step: Step, key: str) -> dict[str, Any] | None:
        directory = self.output(step.name)
        try:
            record: dict[str, Any] = json.loads((directory / RECORD).read_bytes())
            sound = record["key"] == key and record["outputs"] == _outputs(directory) and step.holds()
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return record if sound else None

    def _fresh(self, step: Step, key: str) -> dict[str, Any]:
        self._tell(step, "running")
        start = time.monotonic()
        try:
            with new_directory(self.output(step.name)) as out:
                did = step.run(out, lambda detail, fraction: self._tell(step, "running", detail, fraction))
                record: dict[str, Any] = {
                    "step": step.name,
                    "requires": list(step.requires),
                    "key": key,
                    "inputs": step.inputs,
                    "outputs": _outputs(out),
                    "did": did,
                    "seconds": round(time.monotonic() - start, 3),
                    "ended": datetime.now(UTC).isoformat(timespec="seconds"),
                }
                (out / RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False), "utf-8")
        except BaseException as error:
            self._tell(step, "failed", str(error), seconds=time.monotonic() - start)
            if isinstance(error, Exception) and not isinstance(error, HeadendError):
                raise self._unforeseen(step, error) from error
            raise
        return record

    def _unforeseen(self, step: Step, error: Exception) -> BuildError:
        """What a library or a recipe raised, kept whole in a file for whoever mends it."""
        file = self._root / "traceback.txt"
        file.write_text("".join(traceback.format_exception(error)), "utf-8")
        return BuildError(
            f"{self._model}: step `{step.name}` failed: {type(error).__name__}: {error}",
            hint=f"The traceback is in {file}.",
        )

    def _tell(
        self,
        step: Step,
        status: Status,
        detail: str = "",
        fraction: float | None = None,
        seconds: float = 0.0,
    ) -> None:
        self._listener(Event(self._model, step.name, status, detail, fraction, seconds))


def _outputs(directory: Path) -> dict[str, str]:
    return {name: sum_ for name, sum_ in tree_digests(directory).items() if name != RECORD}
