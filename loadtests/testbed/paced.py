"""The stub of compute, inside Triton's Python backend: the model's own graph runs, and takes a declared time.

Beside `model.py` in the version directory lies `pace.json`, a `Pace`. The time is drawn anew for every
execution; what ONNX Runtime itself took counts towards it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtests.testbed.pace import PACE, Pace
from serving.triton import onnx_model
from serving.triton.onnx_model import Item


class TritonPythonModel(onnx_model.TritonPythonModel):
    """The class that Triton's Python backend looks for."""

    def load(self, directory: Path, args: dict[str, str], parameters: dict[str, str]) -> None:
        """Load the graph and its pace."""
        super().load(directory, args, parameters)
        self._pace = Pace(**json.loads((directory / PACE).read_text()))

    def infer(self, items: Sequence[Item]) -> list[list[Any]]:
        """Answer as the graph does, when the declared time is over."""
        until = time.monotonic() + self._pace.draw(sum(item.rows for item in items))
        answers = super().infer(items)
        time.sleep(max(0.0, until - time.monotonic()))
        return answers
