"""A plain ONNX graph in Triton's Python backend, run by ONNX Runtime; the same code for every such model.

Triton joins requests of equal shape; their tensors are concatenated along the batch dimension, run once, and
the outputs split again. A single request's inputs are not copied.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import triton_python_backend_utils as pb
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from serving.triton.answering import BadRequestError, Model, Request
from serving.triton.memory import Memory, Turn, states_of

Array = npt.NDArray[Any]
REFUSALS = (errors.InvalidArgument, errors.Fail, errors.RuntimeException)
"""What ONNX Runtime raises for inputs that the graph cannot take (a width that its strides do not divide)."""


@dataclass(frozen=True)
class Item:
    """One request, read."""

    inputs: dict[str, Array]
    outputs: list[str]
    """Names of the outputs that the request wants."""
    turn: Turn | None = None
    """Of a model with states."""

    @property
    def rows(self) -> int:
        """Size of the batch dimension."""
        return len(next(iter(self.inputs.values())))


class TritonPythonModel(Model[Item]):
    """The class that Triton's Python backend looks for."""

    def load(self, directory: Path, args: dict[str, str], parameters: dict[str, str]) -> None:
        """Load the graph. Parameter `threads`: CPU threads that one inference may use."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(parameters["threads"])
        options.inter_op_num_threads = 1
        # Threads that spin for long while they wait take the cores from the site's other models. 20 µs bridge
        # the gap between two operators: 2 to 9% faster than sleeping at once, for the same processor time.
        options.add_session_config_entry("session.intra_op.spin_duration_us", "20")
        self._session = ort.InferenceSession(
            str(directory / "model.onnx"), options, providers=_providers(args)
        )
        batched = bool(json.loads(args["model_config"])["max_batch_size"])
        states = states_of(json.loads(parameters.get("states", "[]")), _dtype, batched=batched)
        self._memory = Memory(states, float(parameters.get("sequence_idle_s", "0")))

    def read(self, request: Request) -> Item:
        """Take the tensors as they lie in shared memory."""
        inputs = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        return Item(inputs, list(request.requested_output_names()), self._turn(request))

    def _turn(self, request: Request) -> Turn | None:
        if not self._memory.states:
            return None
        if not (sequence := request.correlation_id()):
            raise BadRequestError("the model has states: requests need a `sequence_id`")
        flags = request.flags()
        return Turn(
            sequence,
            bool(flags & pb.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START),
            bool(flags & pb.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END),
        )

    def infer(self, items: Sequence[Item]) -> list[list[Any]]:
        """Run the graph once for all items; of a model with states, once for each."""
        if self._memory.states:
            return self._remembering(items)
        if len(items) == 1:
            item = items[0]
            return [_tensors(item.outputs, self._run(item.outputs, item.inputs))]
        names = sorted({name for item in items for name in item.outputs})
        joined = {name: np.concatenate([item.inputs[name] for item in items]) for name in items[0].inputs}
        outputs = dict(zip(names, self._run(names, joined), strict=True))
        ends = np.cumsum([item.rows for item in items])
        return [
            _tensors(item.outputs, [outputs[name][end - item.rows : end] for name in item.outputs])
            for item, end in zip(items, ends, strict=True)
        ]

    def _remembering(self, items: Sequence[Item]) -> list[list[Any]]:
        """Kept is what all have made, once all are made: items are tried again when one fails."""
        kept = [state.output for state in self._memory.states]
        answers, made = [], []
        for item in items:
            if item.turn is None:
                raise AssertionError("requests of a model with states have a turn")
            try:
                before = self._memory.recall(item.turn)
            except KeyError:
                raise BadRequestError(f"sequence {item.turn.sequence} has not begun here") from None
            arrays = self._run([*item.outputs, *kept], {**item.inputs, **before})
            answers.append(_tensors(item.outputs, arrays[: len(item.outputs)]))
            made.append((item.turn, dict(zip(kept, arrays[len(item.outputs) :], strict=True))))
        for turn, outputs in made:
            self._memory.keep(turn, outputs)
        return answers

    def _run(self, outputs: list[str], inputs: dict[str, Array]) -> list[Array]:
        try:
            result: list[Array] = self._session.run(outputs, inputs)
            return result
        except REFUSALS as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
            raise BadRequestError(
                f"the model cannot take inputs of these shapes: {shapes}. {error}"
            ) from error


def _providers(args: dict[str, str]) -> list[Any]:
    """ONNX Runtime's execution providers for the instance that Triton is starting."""
    if args["model_instance_kind"] == "GPU":
        return [
            ("CUDAExecutionProvider", {"device_id": args["model_instance_device_id"]}),
            "CPUExecutionProvider",
        ]
    return ["CPUExecutionProvider"]


def _dtype(name: str) -> Any:
    return pb.triton_string_to_numpy(f"TYPE_{name}")


def _tensors(names: list[str], arrays: Sequence[Array]) -> list[Any]:
    return [pb.Tensor(name, array) for name, array in zip(names, arrays, strict=True)]
