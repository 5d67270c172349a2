"""A real Triton for tests: real bundles in, free ports, ended by its own handle."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np
import onnx
import psutil
from onnx import TensorProto, helper
from waiting import free_ports

from models.build import build
from models.bundle import Bundle
from models.importing import register
from models.store import open_store
from serving.fleet import Fleet
from serving.triton import server
from serving.triton.repository import Changes, write_repository

SITE = "here"


def fleet_of(uses: Mapping[str, Mapping[str, Any]]) -> Fleet:
    """A fleet of one site that serves the models of `uses`."""
    return Fleet.model_validate(
        {
            "fleet": "test",
            "models": {name: dict(use) for name, use in uses.items()},
            "sites": {SITE: {"kind": "local", "front_door": "127.0.0.1:9000", "threads": 1}},
        }
    )


def scaling_bundle(folder: Path, name: str, factor: float, serving: str) -> Bundle:
    """Import, build and fetch the model `y = factor * x`, `x` of shape `[n, 4]`."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])],
    )
    return _imported(folder, name, graph, serving, np.ones((3, 4), np.float32))


def pairs_bundle(folder: Path, name: str, serving: str) -> Bundle:
    """Import, build and fetch a model that sums neighbours: `x` of shape `[n, even]`, never odd."""
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "pairs"], ["p"]),
            helper.make_node("ReduceSum", ["p", "last"], ["y"], keepdims=0),
        ],
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "width"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "half"])],
        [
            helper.make_tensor("pairs", TensorProto.INT64, [3], [0, -1, 2]),
            helper.make_tensor("last", TensorProto.INT64, [1], [2]),
        ],
    )
    return _imported(folder, name, graph, serving, np.ones((3, 6), np.float32))


def _imported(folder: Path, name: str, graph: onnx.GraphProto, serving: str, case: Any) -> Bundle:
    (folder / "cases").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    np.savez(folder / "cases" / "one.npz", x=case)
    (folder / "card.yaml").write_text(
        f"""
name: {name}
title: {name}
task: other
version: "1"
licence: Apache-2.0
source: {{}}
graphs: {{model: model.onnx}}
parity: {{tolerances: {{fp32: {{absolute: 0}}}}}}
serving:{serving}
"""
    )
    built = build(register(folder / "model.onnx", folder / "card.yaml"))
    return open_store().fetch(name, built.digest)


class Triton:
    """One Triton that serves `bundles` as `fleet` says, in `folder`."""

    def __init__(self, folder: Path, fleet: Fleet) -> None:
        self.fleet = fleet
        self.repository, self.runtime, self.log = folder / "repository", folder / "runtime", folder / "log"
        self.http_port, self.grpc_port, self.metrics_port = free_ports(3)
        self.http, self.grpc = f"127.0.0.1:{self.http_port}", f"127.0.0.1:{self.grpc_port}"
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, bundles: Mapping[str, Bundle]) -> Changes:
        """Bring the repository up to date."""
        return write_repository(self.fleet, SITE, bundles, self.repository, flavour="embedded")

    def start(self, models: Iterable[str]) -> Self:
        """Start it and wait until it answers."""
        argv, env = server.command(
            self.repository, self.http_port, self.grpc_port, self.metrics_port, models, self.runtime
        )
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(argv, env=env, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 120
        while not self.answers("health/live"):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)
        return self

    def answers(self, path: str) -> bool:
        """Whether `GET /v2/<path>` is answered with 200."""
        try:
            return httpx.get(f"http://{self.http}/v2/{path}", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def stubs(self) -> list[psutil.Process]:
        """The processes that run its models."""
        assert self.process
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "triton_python_backend_stub" in " ".join(child.cmdline()[:1])]

    def shared_memory(self) -> list[Path]:
        """Its files in /dev/shm."""
        return list(Path("/dev/shm").glob(f"{server.shared_memory_prefix(self.runtime)}*"))

    def stop(self) -> None:
        """End it, and take away what a killed one leaves."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(server.EXIT_TIMEOUT_S + 10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for path in self.shared_memory():
            path.unlink(missing_ok=True)
