"""What one check has found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from serving.fleet import Fleet

Verdict = Literal["ok", "note", "problem"]
GIB = 1 << 30
RUN_S = 30.0
"""Time for a program that is only asked whether it starts."""


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    verdict: Verdict
    """`problem`: the fleet cannot run until something is done; `note`: it can."""
    found: str
    todo: str = ""


Check = Callable[[Fleet], Iterator[Finding]]
