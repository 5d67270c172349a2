"""Inputs for a model that came without recorded ones: weaker proof than real inputs; the report says so."""

from __future__ import annotations

import numpy as np

from models.card import Card, Tensor
from models.errors import BuildError
from models.recipe import Array, Case, Runner

_SIZES = (32, 64, 224, 16, 8, 1)
_DTYPES = {
    "FP32": np.float32,
    "FP16": np.float16,
    "INT64": np.int64,
    "INT32": np.int32,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}


def generated(card: Card, run: Runner) -> list[Case]:
    """Two cases of numbers from a fixed seed: standard normal, or small non-negative integers.

    Dimensions that vary get the first size that the source runtime accepts. Raises `BuildError` if none is.
    """
    batch = 2 if card.serving.max_batch_size else None
    problem = ""
    for size in _SIZES:
        rng = np.random.default_rng(0)
        cases = [
            Case(
                "model",
                f"generated-{number}",
                {t.name: _tensor(t, rng, size, batch) for t in card.serving.inputs},
            )
            for number in (1, 2)
        ]
        try:
            for case in cases:
                run(case.graph, case.inputs)
        except Exception as error:  # ONNX Runtime's own exceptions have no common public class
            problem = str(error)
        else:
            return cases
    raise BuildError(
        f"{card.name} has no recorded inputs, and its source runtime refuses generated ones: {problem}",
        hint="Put real inputs beside the card as cases/*.npz, one array per input.",
    )


def _tensor(tensor: Tensor, rng: np.random.Generator, size: int, batch: int | None) -> Array:
    if tensor.dtype == "BYTES":
        raise BuildError(
            f"Input `{tensor.name}` is text: put recorded inputs beside the card as cases/*.npz."
        )
    dims = [size if dim == -1 else dim for dim in tensor.shape]
    shape = dims if batch is None else [batch, *dims]
    if tensor.dtype in ("FP32", "FP16"):
        return rng.standard_normal(shape).astype(_DTYPES[tensor.dtype])
    return rng.integers(0, 2 if tensor.dtype == "BOOL" else 8, shape).astype(_DTYPES[tensor.dtype])
