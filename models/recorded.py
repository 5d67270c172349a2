"""Recorded inputs in a bundle, with what the source runtime answered: `cases/<graph>/<number>.npz`.

Arrays are named `in.<tensor>` and `out.<tensor>`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.recipe import Array, Case

LIMIT = 8 << 20
"""Bytes per graph. A few cases are proof enough on a site; the gate itself runs them all."""


@dataclass(frozen=True)
class Recorded:
    """One case and the source's outputs."""

    case: Case
    expected: Mapping[str, Array]


def write(cases: Sequence[Case], expected: Sequence[Mapping[str, Array]], directory: Path) -> None:
    """Write the first case of each graph, and more of it while `LIMIT` allows."""
    used: dict[str, int] = {}
    for number, (case, outputs) in enumerate(zip(cases, expected, strict=True)):
        arrays = {f"in.{name}": value for name, value in case.inputs.items()}
        arrays |= {f"out.{name}": value for name, value in outputs.items()}
        size = sum(value.nbytes for value in arrays.values())
        if case.graph in used and used[case.graph] + size > LIMIT:
            continue
        used[case.graph] = used.get(case.graph, 0) + size
        path = directory / case.graph / f"{number:03}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays)


def read(directory: Path) -> Iterator[Recorded]:
    """All cases in a bundle's directory `cases`, sorted."""
    for path in sorted(directory.glob("*/*.npz")):
        inputs: dict[str, Array] = {}
        outputs: dict[str, Array] = {}
        with np.load(path, allow_pickle=False) as arrays:
            for key in arrays.files:
                kind, name = key.split(".", 1)
                (inputs if kind == "in" else outputs)[name] = arrays[key]
        graph = path.parent.name
        yield Recorded(Case(graph, f"{graph} {path.stem}", inputs), outputs)
