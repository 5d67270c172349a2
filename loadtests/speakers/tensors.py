"""Tensors on their way into and out of `tritonclient`, whose two halves have the same classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from tritonclient.utils import np_to_triton_dtype

from loadtests.inputs.tensors import Tensors


def written(client: Any, tensors: Tensors) -> list[Any]:
    """`InferInput`s of `client` (`tritonclient.grpc` or `tritonclient.http`), with binary content."""
    found = []
    for name, array in tensors.items():
        text = array.dtype == np.object_
        tensor = client.InferInput(
            name, list(array.shape), "BYTES" if text else np_to_triton_dtype(array.dtype)
        )
        found.append(tensor.set_data_from_numpy(array))
    return found


def read(result: Any) -> Tensors:
    """All outputs of an `InferResult` by name."""
    response = result.get_response()
    names = (
        [output["name"] for output in response.get("outputs", ())]
        if isinstance(response, dict)
        else [output.name for output in response.outputs]
    )
    return {name: result.as_numpy(name) for name in names}
