"""Two models, one with a memory, in two versions each, which answer alike."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

from models.build import build
from models.importing import register

PLAIN, TALLY = "sum", "tally"
MODELS = (PLAIN, TALLY)
BYTES = 64
"""Size of a message."""


def build_version(version: int) -> None:
    """Make this version of both models the store's current one."""
    for name in MODELS:
        with TemporaryDirectory() as folder:
            graph, card = Path(folder, "model.onnx"), Path(folder, "card.yaml")
            graph.write_bytes(_graph(name, version))
            card.write_text(yaml.safe_dump(_card(name, version)))
            (card.parent / "cases").mkdir()
            rng = np.random.default_rng(1)
            for number in range(2):
                case = {"data": rng.integers(0, 256, (1, BYTES), np.uint8)}
                if name == TALLY:
                    case["before"] = np.full((1, 1), number, np.int64)
                np.savez(card.parent / "cases" / f"{number}.npz", **case)
            register(graph, card)
        build(name)


def _graph(name: str, version: int) -> bytes:
    """`total = sum of data`; of the model with a memory `total = after = before + sum of data`."""
    from onnx import TensorProto, helper  # of the extra `build`

    def tensor(called: str, kind: int, size: int) -> Any:
        return helper.make_tensor_value_info(called, kind, ["batch", size])

    inputs, outputs = [tensor("data", TensorProto.UINT8, BYTES)], []
    nodes = [
        helper.make_node("Cast", ["data"], ["wide"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["wide", "axis"], ["summed"], keepdims=1),
    ]
    if name == TALLY:
        inputs.append(tensor("before", TensorProto.INT64, 1))
        outputs.append(tensor("after", TensorProto.INT64, 1))
        nodes.append(helper.make_node("Add", ["before", "summed"], ["after"]))
    said = "after" if name == TALLY else "summed"
    # The second version does the same by one operation more.
    nodes += [helper.make_node("Add", [said, "nothing"], ["same"])] if version > 1 else []
    nodes.append(helper.make_node("Identity", ["same" if version > 1 else said], ["total"]))
    outputs.append(tensor("total", TensorProto.INT64, 1))
    weights = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("nothing", TensorProto.INT64, [1], [0]),
    ]
    used = {each for node in nodes for each in node.input}
    graph = helper.make_graph(nodes, name, inputs, outputs, [each for each in weights if each.name in used])
    opsets = [helper.make_opsetid("", 17)]
    serialized: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return serialized


def _card(name: str, version: int) -> dict[str, object]:
    total = {"name": "total", "dtype": "INT64", "shape": [1]}
    inputs: list[object] = [{"name": "data", "dtype": "UINT8", "shape": [BYTES]}]
    serving: dict[str, object] = {"max_batch_size": 8, "max_threads": 1, "inputs": inputs, "outputs": [total]}
    if name == TALLY:
        inputs.append({"name": "before", "dtype": "INT64", "shape": [1]})
        serving |= {
            "outputs": [{"name": "after", "dtype": "INT64", "shape": [1]}, total],
            "sequences": {"states": {"before": "after"}},
        }
    return {
        "name": name,
        "title": "The sum of all bytes" + (" of a sequence so far" if name == TALLY else ""),
        "task": "other",
        "version": str(version),
        "licence": "Apache-2.0",
        "source": {},
        "graphs": {"model": "model.onnx"},
        "parity": {"tolerances": {"fp32": {"absolute": 0}}},
        "serving": serving,
    }
