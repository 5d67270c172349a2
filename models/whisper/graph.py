"""What Whisper's two ONNX graphs are written with: layers of the network over `onnxscript`'s graph builder.

Only standard operators of opset 20 are used, so that ONNX Runtime (which fuses them itself) and TensorRT take
the same file. The network is that of Radford et al., "Robust Speech Recognition via Large-Scale Weak
Supervision" (2022), and of the reference `whisper/model.py` in openai/whisper.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxscript
from onnxscript import ir

from models.whisper.ct2 import Weights

OPSET = 20
"""First opset with `Gelu`."""
IR_VERSION = 10
"""Read by every ONNX Runtime since 1.18, the native backends of Triton's containers among them."""
NEVER = -1e4
"""Added to the score of a place that must not be attended to; its exponential is 0, and FP16 holds it."""

Value = Any
"""A value of the graph under construction."""


class Network:
    """A graph under construction, and the weights its layers are made of."""

    def __init__(self, name: str, weights: Weights) -> None:
        self.weights = weights
        self._graph = ir.Graph([], [], nodes=[], name=name, opset_imports={"": OPSET})
        self._builder = onnxscript.GraphBuilder(self._graph)
        self.op = self._builder.op

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Prefix the names of nodes made within by `name/`."""
        self._builder.push_module(name)
        try:
            yield
        finally:
            self._builder.pop_module()

    def input(self, name: str, dtype: ir.DataType, shape: Sequence[int | str]) -> Value:
        """A new graph input."""
        return self._builder.input(name, dtype, list(shape))

    def output(self, name: str, value: Value, dtype: ir.DataType, shape: Sequence[int | str]) -> None:
        """Make `value` the graph output `name`."""
        value.dtype, value.shape = dtype, ir.Shape(list(shape))
        self._builder.add_output(value, name)

    def constant(self, name: str, value: npt.NDArray[Any]) -> Value:
        """A weight."""
        return self._builder.initializer(ir.tensor(np.ascontiguousarray(value), name=name))

    def dimension(self, value: Value, axis: int) -> Value:
        """The size of `axis` of `value`, INT64 scalar."""
        size = self.op.Shape(value, start=axis, end=axis + 1)
        return self.op.Squeeze(size, [0])

    def linear(self, x: Value, name: str, scale: npt.NDArray[np.float32] | None = None) -> Value:
        """`x @ W.T + b`, with the output channels multiplied by `scale`."""
        weight, bias = self.weights.float32(f"{name}/weight"), self.weights.float32(f"{name}/bias")
        if scale is not None:
            weight, bias = weight * scale[:, None], bias * scale
        product = self.op.MatMul(x, self.constant(f"{name}/weight", weight.T))
        return self.op.Add(product, self.constant(f"{name}/bias", bias))

    def norm(self, x: Value, name: str) -> Value:
        """Layer normalisation over the last axis."""
        gamma = self.constant(f"{name}/gamma", self.weights.float32(f"{name}/gamma"))
        beta = self.constant(f"{name}/beta", self.weights.float32(f"{name}/beta"))
        return self.op.LayerNormalization(x, gamma, beta, axis=-1, epsilon=1e-5)

    def feed_forward(self, x: Value, name: str) -> Value:
        """The block's second half, with its residual."""
        hidden = self.linear(self.norm(x, f"{name}/layer_norm"), f"{name}/linear_0")
        return self.op.Add(x, self.linear(self.op.Gelu(hidden), f"{name}/linear_1"))

    def heads(self, x: Value, count: int) -> Value:
        """`[B, S, D]` as `[B, heads, S, D / heads]`."""
        return self.op.Transpose(self.op.Reshape(x, [0, 0, count, -1]), perm=[0, 2, 1, 3])

    def merged(self, x: Value) -> Value:
        """`[B, heads, S, d]` as `[B, S, heads * d]`."""
        return self.op.Reshape(self.op.Transpose(x, perm=[0, 2, 1, 3]), [0, 0, -1])

    def save(self, path: Path, metadata: dict[str, str]) -> None:
        """Write the graph, atomically, after a full check."""
        model = ir.Model(self._graph, ir_version=IR_VERSION, producer_name="headend")
        model.metadata_props.update(metadata)
        proto = ir.to_proto(model)
        for node in proto.graph.node:
            del node.metadata_props[:]  # the builder's notes on its scopes: the names say as much
        onnx.checker.check_model(proto, full_check=True)
        partial = path.with_name(f".{path.name}.partial")
        onnx.save(proto, partial)
        partial.replace(path)


def query_scale(width: int, parts: int, heads: int) -> npt.NDArray[np.float32]:
    """Output scales of a joint projection of `parts`, query first: it takes attention's `1 / sqrt(d)`."""
    scale = np.ones(width * parts, np.float32)
    scale[:width] = (width // heads) ** -0.5
    return scale
