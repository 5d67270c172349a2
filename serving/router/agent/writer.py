"""Puts this front door's plan before Envoy, and sees that Envoy takes it."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path

from serving.router import envoy
from serving.router.agent import kept
from serving.router.view import FleetView

_TAKEN_WITHIN_S = 5.0

_log = logging.getLogger("headend.agent")


class Writer:
    """Of one agent; begins with what the last one wrote. `out`: where Envoy's files are."""

    def __init__(self, base: FleetView, out: Path, directory: Path) -> None:
        self.view = replace(base, plan=kept.read(directory))
        """What was written last, or is to be written first."""
        self._out, self._directory = out, directory
        self._has_written = False
        self.updates_written = 0
        self.updates_refused = 0
        self.updates_missed = 0
        self._waiting_since: float | None = None
        self._counts: tuple[float, float] | None = None

    def write(self, view: FleetView) -> None:
        """Write what follows from `view`, if it differs from what was written last.

        The first time in any case: what lies there may be from before a change of the fleet.
        """
        if kept.hold_file(self._directory).exists():
            self._has_written = False
            return
        if self._has_written and view == self.view:
            return
        kept.write(self._directory, view.plan)
        if envoy.write_shares(view, self._out):
            self.updates_written += 1
            self._waiting_since = time.monotonic()
        self.view, self._has_written = view, True

    def look(self, taken: float, refused: float) -> None:
        """See what has become of it; both are Envoy's counters of updates, from 0 at its start."""
        before, self._counts = self._counts, (taken, refused)
        if before is None or taken < before[0]:
            return
        if refused > before[1]:
            self.updates_refused += int(refused - before[1])
            _log.error("Envoy has refused %d updates: see its log", refused - before[1])
        if taken > before[0]:
            self._waiting_since = None
        elif self._waiting_since is not None and time.monotonic() > self._waiting_since + _TAKEN_WITHIN_S:
            self._waiting_since = None
            self.updates_missed += 1
            _log.error("Envoy has not taken the last update within %.0f s", _TAKEN_WITHIN_S)
