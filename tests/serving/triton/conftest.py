"""Bundles for Triton's tests: signed and verified, around a graph small enough to make in a moment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from models.bundle import Bundle, open_bundle, write_bundle
from models.card import Card
from models.signing import load_signer

MakeBundle = Callable[..., Bundle]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of the test's own."""
    path = tmp_path / "home"
    monkeypatch.setenv("HEADEND_HOME", str(path))
    return path


@pytest.fixture
def make_bundle(home: Path, tmp_path: Path) -> MakeBundle:
    """Makes the bundle of a model `y = factor * x`: (name, factor, changes of the card's `serving`)."""

    def make(name: str, factor: float = 2.0, **serving: Any) -> Bundle:
        tensors = {
            "inputs": [{"name": "x", "dtype": "FP32", "shape": [4]}],
            "outputs": [{"name": "y", "dtype": "FP32", "shape": [4]}],
        }
        card = Card.model_validate(
            {
                "name": name,
                "title": name,
                "task": "other",
                "version": "1",
                "licence": "Apache-2.0",
                "source": {},
                "graphs": {"model": "model.onnx"},
                "parity": {"tolerances": {"fp32": {"absolute": 0}}},
                "serving": {"max_batch_size": 8, **tensors, **serving},
            }
        )
        contents = tmp_path / f"{name}-{factor}"
        (contents / "graphs" / "fp32").mkdir(parents=True)
        (contents / "card.yaml").write_text(card.model_dump_json())
        onnx.save(_scaling(factor), contents / "graphs" / "fp32" / "model.onnx")
        path = write_bundle(contents, card, load_signer(), home / "store" / "bundles")
        return open_bundle(path, path.name)

    return make


def _scaling(factor: float) -> onnx.ModelProto:
    value = helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["factor"], value=value),
            helper.make_node("Mul", ["x", "factor"], ["y"]),
        ],
        "scaling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
