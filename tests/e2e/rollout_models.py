"""One small model in several versions, each a bundle of its own: good, wrong, slow, and one that fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.build import build
from models.importing import register

NAME = "double"
CARD = """
name: double
title: Twice the input
task: other
version: "{version}"
licence: Apache-2.0
source: {{}}
graphs: {{model: model.onnx}}
parity: {{tolerances: {{fp32: {{absolute: 1.0e-4}}}}}}
serving:
  max_batch_size: 8
  inputs: [{{name: x, dtype: FP32, shape: [64]}}]
  outputs: [{{name: y, dtype: FP32, shape: [64]}}]
"""
TOO_LARGE = 1e6
"""The failing version cannot answer an input whose first element is at least this."""


def _double() -> list[onnx.NodeProto]:
    return [helper.make_node("Mul", ["x", "two"], ["y"])]


def _sum() -> list[onnx.NodeProto]:
    return [helper.make_node("Add", ["x", "x"], ["y"])]


def _wrong() -> list[onnx.NodeProto]:
    return [helper.make_node("Mul", ["x", "two"], ["a"]), helper.make_node("Add", ["a", "one"], ["y"])]


def _slow() -> list[onnx.NodeProto]:
    """Some hundred products with a large matrix, of which nothing is left in the answer."""
    nodes = [helper.make_node("MatMul", ["wide", "wide"], ["m0"])]
    nodes += [helper.make_node("MatMul", [f"m{i}", "wide"], [f"m{i + 1}"]) for i in range(4)]
    return [
        # From the input, so that nothing of it can be computed beforehand.
        helper.make_node("ReduceMax", ["x"], ["peak"], keepdims=0),
        helper.make_node("Mul", ["base", "peak"], ["wide"]),
        *nodes,
        helper.make_node("ReduceMax", ["m4"], ["top"], keepdims=0),
        helper.make_node("Mul", ["top", "zero"], ["nothing"]),
        helper.make_node("Mul", ["x", "two"], ["a"]),
        helper.make_node("Add", ["a", "nothing"], ["y"]),
    ]


def _failing() -> list[onnx.NodeProto]:
    """An index beyond the end for a large input, which the recorded inputs do not have."""
    return [
        helper.make_node("ReduceMax", ["x"], ["peak"], keepdims=0),
        helper.make_node("Div", ["peak", "limit"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["two_only", "index"], ["factor"]),
        helper.make_node("Mul", ["x", "factor"], ["y"]),
    ]


VERSIONS = {"first": _double, "good": _sum, "wrong": _wrong, "slow": _slow, "failing": _failing}


def _weights() -> list[onnx.TensorProto]:
    values = {
        "two": np.float32(2),
        "one": np.float32(1),
        "zero": np.float32(0),
        "limit": np.float32(TOO_LARGE),
        "two_only": np.array([2], np.float32),
        "base": np.full((700, 700), 1e-6, np.float32),
    }
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]


def build_version(version: str, folder: Path) -> str:
    """Register and build one version; it is the store's current one afterwards. Returns its digest."""
    (folder / "cases").mkdir(parents=True, exist_ok=True)
    nodes = VERSIONS[version]()
    used = {name for node in nodes for name in node.input}
    shape = ["n", 64]
    graph = helper.make_graph(
        nodes,
        version,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [weight for weight in _weights() if weight.name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    (folder / "card.yaml").write_text(CARD.format(version=version))
    rng = np.random.default_rng(3)
    for number in range(3):
        np.savez(folder / "cases" / f"{number}.npz", x=rng.random((1, 64), np.float32))
    return build(register(folder / "model.onnx", folder / "card.yaml")).digest
