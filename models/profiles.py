"""TensorRT optimisation profiles: for which shapes a plan is compiled, from the card and the recorded
inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.card import Card
from models.errors import BuildError
from models.recorded import Recorded

Shape = tuple[int, ...]
_ROOM = 4  # a plan takes requests up to this many times the largest recorded size of a dimension that varies


@dataclass(frozen=True)
class Range:
    """The shapes that one input may take."""

    least: Shape
    usual: Shape
    most: Shape


Profile = Mapping[str, Range]
"""By input name."""


def profile(card: Card, graph: str, recorded: Sequence[Recorded]) -> dict[str, Range]:
    """The profile of one graph.

    Dimensions that never differ between recorded inputs and are fixed in the card stay fixed. The batch
    dimension goes from 1 to `max_batch_size`, with the first preferred size as the usual one; other
    dimensions that vary go from the least recorded size to four times the largest.
    """
    cases = [item.case for item in recorded if item.case.graph == graph]
    if not cases:
        raise BuildError(f"The bundle of {card.name} has no recorded inputs of graph `{graph}`.")
    return {
        name: _range(card, name, [tuple(case.inputs[name].shape) for case in cases])
        for name in cases[0].inputs
    }


def _range(card: Card, name: str, shapes: Sequence[Shape]) -> Range:
    serving = card.serving
    declared = {tensor.name: tensor.shape for tensor in serving.inputs}.get(name)
    batched = serving.max_batch_size > 0 and serving.runtime == "onnx"
    if declared is None:  # an inner graph of a recogniser: only what was seen is known
        varies = [len(set(sizes)) > 1 for sizes in zip(*shapes, strict=True)]
    else:
        varies = [*([True] if batched else []), *(size == -1 for size in declared)]
    bounds = [
        _bounds(card, axis == 0 and batched, varies[axis], sorted(sizes))
        for axis, sizes in enumerate(zip(*shapes, strict=True))
    ]
    least, usual, most = zip(*bounds, strict=True)
    return Range(tuple(least), tuple(usual), tuple(most))


def _bounds(card: Card, batch: bool, varies: bool, sizes: list[int]) -> tuple[int, int, int]:
    """Least, usual and largest size of one dimension; `sizes` were recorded."""
    serving = card.serving
    if batch:
        preferred = [size for size in serving.preferred_batch_sizes if size <= serving.max_batch_size]
        return 1, preferred[0] if preferred else serving.max_batch_size, serving.max_batch_size
    middle = sizes[len(sizes) // 2]
    return (sizes[0], middle, sizes[-1] * _ROOM) if varies else (middle, middle, middle)
