"""How long executions of a stub take; what `paced` reads beside its script."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

PACE = "pace.json"
"""Lies beside `model.py` in the version directory."""
SHIM = """from loadtests.testbed.paced import TritonPythonModel

__all__ = ["TritonPythonModel"]
"""
"""What `model.py` is."""


@dataclass(frozen=True)
class Pace:
    """How long executions take."""

    mean_s: float
    """Of one row."""
    cv: float
    """Coefficient of variation."""
    row_share: float
    """What each further row adds, as a share of the first."""

    def draw(self, rows: int) -> float:
        """Seconds of one execution: log-normal, with the declared mean and coefficient of variation."""
        variance = math.log1p(self.cv**2)
        one = self.mean_s * math.exp(random.gauss(-variance / 2, math.sqrt(variance)))
        return one * (1 + self.row_share * (rows - 1))
