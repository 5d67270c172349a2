"""Precision variants of a graph: int8 for CPUs, fp16 for GPUs. Inputs and outputs keep their dtypes.

Needs the extra `build`. Deterministic: the same file in, the same bytes out.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models import graphs
from models.card import Precision
from models.errors import BuildError, MissingExtraError

try:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel
except ImportError as error:
    raise MissingExtraError(f"Building models ({error.name} is missing)", "build") from error

KEEP_FP32 = "headend.keep_fp32"
"""Metadata key of a graph: comma-separated prefixes of the names of nodes that fp16 variants leave in
fp32.
"""


def convert(source: Path, out: Path, precision: Precision) -> None:
    """Write one variant of a graph and check it. Raises `BuildError` if there is nothing to convert."""
    match precision:
        case "fp32":
            shutil.copyfile(source, out)
        case "int8":
            _int8(source, out)
        case "fp16":
            onnx.save(_fp16(onnx.load(source)), out)
    graphs.check(out)


def _int8(source: Path, out: Path) -> None:
    """Dynamic quantisation of MatMul, weights signed with a scale per channel.

    Weights take 7 of the 8 bits: on CPUs without VNNI the 8-bit product of two neighbours saturates in 16
    bits, and a bundle has to answer the same everywhere as where it was proven.
    """
    with _quiet():
        quantize_dynamic(
            source,
            out,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
    if not any(node.op_type == "MatMulInteger" for node in onnx.load(out).graph.node):
        raise BuildError(
            f"{source.name}: int8 changes nothing: the graph has no MatMul with constant weights.",
            hint="Leave int8 out of the card's precisions.",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantiser advises, by the root logger, a clean-up that was done already."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _fp16(model: Any) -> Any:
    """Weights and arithmetic in fp16, but for the nodes that the graph keeps and what has no fp16 kernel."""
    own = {node.name for node in model.graph.node}
    half = OnnxModel(convert_float_to_float16(model, keep_io_types=True, node_block_list=_kept(model)))
    _drop_repeated(half.model.graph)
    _join_kept(half.model.graph, own)
    half.prune_graph()
    half.topological_sort()  # the converter appends its casts
    return half.model


def _kept(model: Any) -> list[str]:
    """Nodes that the graph's author wants in fp32 whatever the precision."""
    metadata = {item.key: item.value for item in model.metadata_props}
    prefixes = tuple(filter(None, metadata.get(KEEP_FP32, "").split(",")))
    return [node.name for node in model.graph.node if prefixes and node.name.startswith(prefixes)]


def _drop_repeated(graph: Any) -> None:
    """Remove casts that the converter writes again when a node it keeps takes the same tensor twice."""
    seen: set[tuple[str, ...]] = set()
    for node in list(graph.node):
        key = (node.op_type, *node.input, "->", *node.output)
        if key in seen:
            graph.node.remove(node)
        seen.add(key)


def _join_kept(graph: Any, own: set[str]) -> None:
    """Let a kept node read what another wrote: the converter casts to fp16 and back between them.

    `own` names the nodes that were there before the converter.
    """
    casts = [node for node in graph.node if node.op_type == "Cast" and node.name not in own]
    halved = {
        node.output[0]: node.input[0] for node in casts if node.attribute[0].i == onnx.TensorProto.FLOAT16
    }
    whole = {node.output[0]: halved[node.input[0]] for node in casts if node.input[0] in halved}
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = whole.get(name, name)
