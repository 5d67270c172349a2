"""Recorded arrival times: `<name>.csv.gz` (seconds since the first arrival, sorted), `<name>.txt` beside it
says where it comes from.
"""

from __future__ import annotations

import gzip
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import UsageError

_SUFFIX = ".csv.gz"


def names() -> list[str]:
    """All traces, sorted."""
    return sorted(path.name.removesuffix(_SUFFIX) for path in _folder().glob(f"*{_SUFFIX}"))


@cache
def trace(name: str) -> npt.NDArray[np.float64]:
    """Arrivals of one trace, seconds since its first one, sorted, read-only. Raises `UsageError`."""
    if name not in names():
        raise UsageError(f"there is no trace `{name}`", hint=f"Known: {', '.join(names())}.")
    with gzip.open(_folder() / f"{name}{_SUFFIX}", "rt", encoding="ascii") as file:
        offsets = np.loadtxt(file, skiprows=1)
    offsets.setflags(write=False)
    return offsets


def source(name: str) -> str:
    """Where it comes from and what may be done with it."""
    return (_folder() / f"{name}.txt").read_text("utf-8")


def _folder() -> Path:
    return Path(str(resources.files("loadtests.traces")))


def rate_scale(name: str, rate: float, seconds: float) -> float:
    """How many requests must come for each recorded one, so that the trace's first `seconds` bring `rate` a
    second. Raises `UsageError` when there is no such trace."""
    return rate * seconds / int(np.searchsorted(trace(name), seconds))
