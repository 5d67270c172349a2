"""The scenario's models as bundles: a graph, a card and recorded cases, imported the ordinary way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml

from loadtests.testbed.pace import PACE, SHIM, Pace
from loadtests.testbed.scenario import Compute, Scenario
from models.build import build
from models.files import write_atomic
from models.importing import register
from models.store import open_store
from serving.fleet import Fleet
from serving.triton.repository import write_repository

CASES = 4
"""Different requests of a model."""


def build_models(scenario: Scenario) -> None:
    """Import and build every model of the scenario into the store of `$HEADEND_HOME`."""
    for name, compute in scenario.models.items():
        with _sources(name, compute) as (graph, card):
            register(graph, card)
        build(name)


def place(scenario: Scenario, fleet: Fleet, site: str, repository: Path) -> None:
    """Derive the site's model repository as the site itself will, and give its models their pace.

    The site finds every model's files as they should be, and leaves them.
    """
    store = open_store(fleet.store)
    bundles = {name: store.fetch(name) for name in fleet.models_at(site)}
    write_repository(fleet, site, bundles, repository, flavour="embedded")
    for name in bundles:
        compute = scenario.models[name]
        pace = Pace(compute.mean_ms / 1e3 / scenario.sites[site].speed, compute.cv, compute.row_share)
        for script in (repository / name).glob("*/model.py"):
            write_atomic(script, SHIM.encode())
            write_atomic(script.with_name(PACE), json.dumps(asdict(pace)).encode())


@contextmanager
def _sources(name: str, compute: Compute) -> Iterator[tuple[Path, Path]]:
    with TemporaryDirectory() as folder:
        graph, card = Path(folder, "model.onnx"), Path(folder, "card.yaml")
        graph.write_bytes(_graph(compute))
        card.write_text(yaml.safe_dump(_card(name, compute)))
        (card.parent / "cases").mkdir()
        rng = np.random.default_rng(1)
        for number in range(CASES):
            row = rng.integers(0, 256, (1, compute.bytes), np.uint8)
            np.savez(card.parent / "cases" / f"{number}.npz", data=row)
        yield graph, card


def _graph(compute: Compute) -> bytes:
    """`sum = ReduceSum(Cast(data))`, one number a row."""
    from onnx import TensorProto, helper  # of the extra `build`

    data = helper.make_tensor_value_info("data", TensorProto.UINT8, ["batch", compute.bytes])
    total = helper.make_tensor_value_info("sum", TensorProto.INT64, ["batch", 1])
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
    nodes = [
        helper.make_node("Cast", ["data"], ["wide"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["wide", "axis"], ["sum"], keepdims=1),
    ]
    graph = helper.make_graph(nodes, "sum-of-bytes", [data], [total], [axis])
    opsets = [helper.make_opsetid("", 17)]
    serialized: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return serialized


def _card(name: str, compute: Compute) -> dict[str, object]:
    return {
        "name": name,
        "title": "The sum of the input's bytes, after a declared time",
        "task": "other",
        "version": "1",
        "licence": "Apache-2.0",
        "source": {},
        "graphs": {"model": "model.onnx"},
        "parity": {"tolerances": {"fp32": {"absolute": 0}}},
        "serving": {
            "max_batch_size": compute.max_batch,
            "max_queue": compute.max_queue,
            "queue_timeout_ms": compute.queue_timeout_ms,
            "max_threads": 1,
            "inputs": [{"name": "data", "dtype": "UINT8", "shape": [compute.bytes]}],
            "outputs": [{"name": "sum", "dtype": "INT64", "shape": [1]}],
        },
    }
