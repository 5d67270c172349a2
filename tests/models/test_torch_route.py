"""The torch route: a module exported, proven against itself and bundled."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from models import catalog_index
from models.build import build
from models.errors import MissingExtraError
from models.store import open_store

HAS_TORCH = importlib.util.find_spec("torch") is not None

CARD = """
name: torch-net
title: A convolution and a recurrent layer
task: other
version: "1"
licence: Apache-2.0
source: {}
graphs: {model: model.onnx}
precisions: [fp32]
parity:
  reference: torch
  tolerances:
    fp32: {absolute: 1.0e-5}
serving:
  max_batch_size: 8
  inputs: [{name: x, dtype: FP32, shape: [4, -1]}]
  outputs: [{name: y, dtype: FP32, shape: [-1, 6]}]
"""
RECIPE = """
import numpy as np
import torch
from models.recipe import Case
from models.torch_export import export_module, module_runner

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv1d(4, 8, 3, padding=1)
        self.gru = torch.nn.GRU(8, 6, batch_first=True)

    def forward(self, x):
        return self.gru(torch.relu(self.conv(x)).transpose(1, 2))[0]

def net():
    torch.manual_seed(3)
    return Net()

def export(source, out):
    example = {"x": np.zeros((2, 4, 10), np.float32)}
    export_module(net(), example, ["y"], out / "model.onnx", dynamic={"x": {0: "batch", 2: "time"}})

def reference(source):
    return module_runner({"model": net()}, {"model": ["y"]})

def cases(source, exported):
    rng = np.random.default_rng(5)
    for shape in ((1, 4, 10), (3, 4, 25)):
        yield Case("model", str(shape), {"x": rng.standard_normal(shape).astype(np.float32)})
"""


@pytest.mark.skipif(HAS_TORCH, reason="torch is installed")
def test_without_torch_the_extra_is_named() -> None:
    with pytest.raises(MissingExtraError, match="needs the extra `torch`"):
        importlib.import_module("models.torch_export")


@pytest.mark.build
@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed: pip install torch==2.13.0")
def test_a_module_becomes_a_proven_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "catalog" / "torch-net"
    folder.mkdir(parents=True)
    (folder / "card.yaml").write_text(CARD)
    (folder / "export.py").write_text(RECIPE)
    monkeypatch.setattr(catalog_index, "CATALOG", tmp_path / "catalog")
    build("torch-net")
    bundle = open_store().fetch("torch-net")
    report = bundle.parity()
    assert report["reference"] == "torch"
    assert [item["shape"] for item in report["precisions"]["fp32"]["tensors"]] == [[1, 10, 6], [3, 25, 6]]
    assert bundle.recorded()[1].expected["y"].dtype == np.float32
