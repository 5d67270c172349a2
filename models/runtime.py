"""ONNX Runtime as a runner of named graphs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnxruntime

from models.recipe import Array, Runner

_ORT_WARNING = 3  # errors only: slimmed graphs make it warn about initializers it does not need


def session(
    path: Path, *, providers: tuple[str, ...] = ("CPUExecutionProvider",)
) -> onnxruntime.InferenceSession:
    """A session on one graph file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ORT_WARNING
    return onnxruntime.InferenceSession(str(path), options, providers=list(providers))


def runner(graphs: Mapping[str, Path], *, providers: tuple[str, ...] = ("CPUExecutionProvider",)) -> Runner:
    """Run graphs by name on one runtime; each is loaded when first used."""
    sessions: dict[str, onnxruntime.InferenceSession] = {}

    def run(graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if graph not in sessions:
            sessions[graph] = session(graphs[graph], providers=providers)
        names = [output.name for output in sessions[graph].get_outputs()]
        return dict(zip(names, sessions[graph].run(names, dict(inputs)), strict=True))

    return run
