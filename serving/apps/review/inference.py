"""What the review app asks of whatever runs its models: a front door, or ONNX Runtime in its own process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


class Models(Protocol):
    """Asks models for inference (`serving.apps.models_client.ModelsClient`)."""

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Array],
        *,
        outputs: Sequence[str] | None = None,
        hop: str | None = None,
        timeout_s: float = 60.0,
    ) -> dict[str, Array]:
        """One inference: tensors by name in, tensors by name out."""
        ...
