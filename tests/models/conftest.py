"""A state directory of its own for every test, and a small real model: two layers, built in milliseconds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.build import Built, build
from models.importing import register

CARD = """
name: tiny
title: Two layers
task: other
version: "1"
licence: Apache-2.0
source: {}
graphs: {model: model.onnx}
precisions: [fp32, fp16, int8]
parity:
  tolerances:
    fp32: {absolute: 1.0e-5}
    fp16: {absolute: 1.0e-2}
    int8: {absolute: 0.2}
serving:
  max_batch_size: 8
  inputs: [{name: x, dtype: FP32, shape: [16]}]
  outputs: [{name: y, dtype: FP32, shape: [4]}]
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`$HEADEND_HOME` of this test."""
    path = tmp_path / "home"
    monkeypatch.setenv("HEADEND_HOME", str(path))
    return path


def write_model(path: Path, *, scale: float = 1.0) -> Path:
    """softmax(relu(x W1) W2), with an Identity that simplification removes."""
    rng = np.random.default_rng(7)
    weights = [(rng.standard_normal(shape) * scale).astype(np.float32) for shape in ((16, 32), (32, 4))]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w1"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Identity", ["b"], ["c"]),
            helper.make_node("MatMul", ["c", "w2"], ["d"]),
            helper.make_node("Softmax", ["d"], ["y"], axis=-1),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(w, name) for w, name in zip(weights, ("w1", "w2"), strict=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def register_tiny(folder: Path, *changes: tuple[str, str], scale: float = 0.3) -> str:
    """Write the small model, its card changed by replacements, and take it in; returns its name."""
    (folder / "cases").mkdir(parents=True, exist_ok=True)
    card = CARD
    for old, new in changes:
        assert old in card
        card = card.replace(old, new)
    (folder / "card.yaml").write_text(card)
    x = np.random.default_rng(1).standard_normal((3, 16)).astype(np.float32)
    np.savez_compressed(folder / "cases" / "three.npz", x=x)
    return register(write_model(folder / "model.onnx", scale=scale), folder / "card.yaml")


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., str]:
    """Registers the small model: see `register_tiny`."""
    return lambda *changes, **options: register_tiny(tmp_path / "mine", *changes, **options)


@pytest.fixture(scope="session")
def _built_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Built]:
    home = tmp_path_factory.mktemp("built") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADEND_HOME", str(home))
        return home, build(register_tiny(home.parent / "mine"))


@pytest.fixture
def built(_built_once: tuple[Path, Built], state: Path) -> Built:
    """The small model's bundle, in this test's own state directory."""
    home, result = _built_once
    shutil.copytree(home, state)
    return replace(result, path=state / result.path.relative_to(home))
