"""The catalog's native ONNX models, built for real from their packages."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.build import build
from models.catalog_index import load_card
from models.runtime import session
from models.store import open_store

pytestmark = pytest.mark.build


@pytest.mark.parametrize("name", ["silero-vad", "ppocr-det", "ppocr-cls", "ppocr-rec", "open-nsfw"])
def test_it_builds_and_runs(name: str, state: Path) -> None:
    built = build(name)
    bundle = open_store().fetch(name)
    assert bundle.digest == built.digest
    report = bundle.parity()
    assert report["recorded"]
    assert set(report["precisions"]) == set(load_card(name).precisions)
    graph = session(bundle.graph("model", "fp32"))
    declared = load_card(name).serving
    assert {value.name for value in graph.get_inputs()} == {tensor.name for tensor in declared.inputs}
    assert {value.name for value in graph.get_outputs()} == {tensor.name for tensor in declared.outputs}
    if name == "ppocr-rec":
        assert len(bundle.file("labels.txt").read_text("utf-8").split("\n")) == 6623
        rates = [found["character_error_rate"]["found"] for found in report["precisions"].values()]
        assert max(rates) < 0.02
