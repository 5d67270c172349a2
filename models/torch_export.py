"""The torch route, for recipes whose weights are a PyTorch module. Needs the extra `torch`.

A recipe's `export` calls `export_module`, its `reference` returns `module_runner`: the gate then compares the
graph with the module itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import MissingExtraError
from models.recipe import Array, Runner

if TYPE_CHECKING:
    import torch

try:
    import torch
except ImportError as error:
    raise MissingExtraError("Exporting a PyTorch module", "torch") from error

OPSET = 20


def export_module(
    module: torch.nn.Module,
    example: Mapping[str, Array],
    outputs: Sequence[str],
    out: Path,
    *,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
) -> None:
    """Write a module as ONNX, weights inside.

    `example` has one array per parameter of `forward`, by its name; these names and `outputs` become the
    graph's. `dynamic` names the dimensions that vary: input name to axis to a name, `{"x": {0: "batch"}}`.
    Their example sizes should be above 1, which PyTorch takes for a constant.
    """
    module.eval()
    shapes = {name: dict((dynamic or {}).get(name, {})) for name in example}
    with torch.no_grad():
        program = torch.onnx.export(
            module,
            kwargs=_tensors(example),
            input_names=list(example),
            output_names=list(outputs),
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    program.save(out, external_data=False)


def module_runner(modules: Mapping[str, torch.nn.Module], outputs: Mapping[str, Sequence[str]]) -> Runner:
    """The modules themselves as the source runtime; `outputs` names each graph's results in order."""

    def run(graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        with torch.no_grad():
            found = modules[graph].eval()(**_tensors(inputs))
        values = found if isinstance(found, tuple) else (found,)
        return {name: value.numpy() for name, value in zip(outputs[graph], values, strict=True)}

    return run


def _tensors(arrays: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value) for name, value in arrays.items()}
