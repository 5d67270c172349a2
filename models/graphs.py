"""What is done to every ONNX graph on its way into a bundle: check, compare with the card, simplify.

Needs the extra `build`. Every function is deterministic: the same file in, the same bytes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.card import Card, Tensor
from models.errors import BuildError, MissingExtraError

try:
    import onnx
    import onnxslim
except ImportError as error:
    raise MissingExtraError(f"Building models ({error.name} is missing)", "build") from error

_DTYPES = {
    "FP32": onnx.TensorProto.FLOAT,
    "FP16": onnx.TensorProto.FLOAT16,
    "INT64": onnx.TensorProto.INT64,
    "INT32": onnx.TensorProto.INT32,
    "INT8": onnx.TensorProto.INT8,
    "UINT8": onnx.TensorProto.UINT8,
    "BOOL": onnx.TensorProto.BOOL,
    "BYTES": onnx.TensorProto.STRING,
}
_NAMES = {number: name for name, number in _DTYPES.items()}
KEEP_FP32 = "headend.keep_fp32"
"""Metadata key of a graph: comma-separated prefixes of the names of nodes that fp16 variants leave in
fp32.
"""
Dims = tuple[int, ...]


def check(path: Path) -> dict[str, Any]:
    """Run ONNX's checker with strict shape inference and data propagation; return a summary of the graph.

    Raises `BuildError` with the checker's words.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
        model = onnx.shape_inference.infer_shapes(
            onnx.load(path), check_type=True, strict_mode=True, data_prop=True
        )
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise BuildError(f"{path.name} is not sound ONNX: {error}") from error
    except Exception as error:  # protobuf raises its own, which onnx does not name
        raise BuildError(f"{path.name} cannot be read as ONNX: {error}") from error
    return {
        "ir_version": model.ir_version,
        "opsets": {item.domain or "ai.onnx": item.version for item in model.opset_import},
        "nodes": len(model.graph.node),
        "parameters": sum(_count(item.dims) for item in _weights(model.graph)),
        "inputs": {name: [dtype, list(dims)] for name, (dtype, dims) in _tensors(model.graph.input).items()},
        "outputs": {
            name: [dtype, list(dims)] for name, (dtype, dims) in _tensors(model.graph.output).items()
        },
    }


def check_against_card(path: Path, card: Card) -> None:
    """Refuse a graph whose tensors are not those the card promises to clients."""
    graph = onnx.load(path, load_external_data=False).graph
    weights = {item.name for item in graph.initializer}
    inputs = [item for item in graph.input if item.name not in weights]
    for role, declared, found in (
        ("input", card.serving.inputs, _tensors(inputs)),
        ("output", card.serving.outputs, _tensors(graph.output)),
    ):
        names = {tensor.name for tensor in declared}
        if names != set(found):
            raise BuildError(
                f"{card.name}: the card declares {role}s {', '.join(sorted(names))}; "
                f"the graph has {', '.join(sorted(found))}."
            )
        for tensor in declared:
            _compare(card, role, tensor, *found[tensor.name])


def _compare(card: Card, role: str, tensor: Tensor, dtype: str, dims: Dims) -> None:
    batch = [-1] if card.serving.max_batch_size else []
    wanted = [*batch, *tensor.shape]
    fits = len(wanted) == len(dims) and all(a == b or -1 in (a, b) for a, b in zip(wanted, dims, strict=True))
    if batch and dims and dims[0] != -1:
        raise BuildError(
            f"{card.name}: max_batch_size is {card.serving.max_batch_size}, but {role} `{tensor.name}` has "
            f"a fixed first dimension of {dims[0]}.",
            hint="Export it with a dynamic batch dimension, or set serving.max_batch_size to 0.",
        )
    if dtype != tensor.dtype or not fits:
        raise BuildError(
            f"{card.name}: the card declares {role} `{tensor.name}` as {tensor.dtype} {wanted}, "
            f"the graph has {dtype} {list(dims)}."
        )


def _tensors(values: Sequence[Any]) -> dict[str, tuple[str, Dims]]:
    return {
        value.name: (
            _NAMES.get(value.type.tensor_type.elem_type, "?"),
            tuple(dim.dim_value if dim.dim_value > 0 else -1 for dim in value.type.tensor_type.shape.dim),
        )
        for value in values
    }


def _weights(graph: Any) -> list[Any]:
    """Initializers, and constants, in which some exporters keep them."""
    constants = [node for node in graph.node if node.op_type == "Constant"]
    return [
        *graph.initializer,
        *(item.t for node in constants for item in node.attribute if item.name == "value"),
    ]


def _count(dims: Sequence[int]) -> int:
    total = 1
    for dim in dims:
        total *= dim
    return total


def simplify(source: Path, out: Path) -> str:
    """Fold constants and remove what is not needed with onnxslim; tensor names stay. Returns what changed."""
    model = onnx.load(source)
    before = len(model.graph.node)
    slim = onnxslim.slim(model)
    onnx.save(slim, out)
    return f"{before} to {len(slim.graph.node)} nodes"
