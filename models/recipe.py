"""What `models/catalog/<name>/export.py` may define: how a card's weights become ONNX and how that is proven.

A card whose weights are ONNX already needs no recipe: its graph is taken as it is and compared with itself
before simplification and precision conversion, on the inputs recorded in `cases/*.npz` beside the card.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Runner = Callable[[str, Mapping[str, Array]], dict[str, Array]]
"""Runs one graph: (graph name, inputs by name) to outputs by name."""


@dataclass(frozen=True)
class Case:
    """One recorded real input of one graph."""

    graph: str
    name: str
    inputs: Mapping[str, Array]


@dataclass(frozen=True)
class Clip:
    """A spoken clip with its transcript, for the character error rate."""

    name: str
    audio: npt.NDArray[np.float32]
    """Mono, 16 kHz, -1 to 1."""
    language: str
    text: str


class Recipe(Protocol):
    """The module `export.py`, loaded by path."""

    def export(self, source: Path, out: Path) -> None:
        """Write the card's fp32 graphs and files into `out` from the fetched `source` directory."""

    def reference(self, source: Path) -> Runner:
        """The source runtime as a runner with the graphs' tensor names."""

    def cases(self, source: Path, exported: Path) -> Iterable[Case]:
        """Recorded real inputs; `exported` holds the fp32 graphs, so that one can feed another."""


class RecognizerRecipe(Recipe, Protocol):
    """A recipe of a card with the task metric.

    A model that reads gives its own kind of clips: whatever has a `name` and the right `text`.
    """

    def clips(self) -> Iterable[Clip]:
        """The clips at hand."""

    def reference_texts(self, source: Path, clips: list[Clip]) -> list[str]:
        """What the source runtime hears."""

    def texts(self, bundle_dir: Path, precision: str, clips: list[Clip]) -> list[str]:
        """What the exported graphs hear."""
