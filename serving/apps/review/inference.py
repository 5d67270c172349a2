"""What the review app asks of whatever runs its models: a front door, or ONNX Runtime in its own process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


class Infer(Protocol):
    """One inference of a model: tensors by name in, all its outputs by name out.

    `serving.apps.models_client.ModelsClient.infer` is one, with the request's hop bound to it.
    """

    async def __call__(self, model: str, inputs: Mapping[str, Array], /) -> dict[str, Array]:
        """Raises `AppError` when the model does not answer."""
        ...
