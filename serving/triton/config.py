"""Triton's model configuration as typed classes, rendered and read back through Triton's own messages.

Source of the fields: `protobuf/model_config.proto` of triton-inference-server/common, which `tritonclient`
carries. The response cache stays off: it is keyed by the inputs' bytes, and live media never repeat.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from google.protobuf import text_format
from pydantic import Field, StringConstraints, model_validator
from tritonclient.grpc import model_config_pb2 as pb

from models.card import DType, Name
from models.errors import DeclarationError
from models.schema import Strict
from serving.fleet import DEFAULT_CLASS, PRIORITY, Class

Backend = Literal["python", "onnxruntime", "tensorrt"]
Dim = Annotated[int, Field(ge=-1)]
TensorName = Annotated[str, StringConstraints(min_length=1)]

HEADER = "# Derived from the fleet and the model's card: change those, not this file.\n"


def data_type(dtype: DType) -> int:
    """Triton's number for a data type."""
    number: int = pb.DataType.Value(f"TYPE_{'STRING' if dtype == 'BYTES' else dtype}")
    return number


class TensorConfig(Strict):
    """An input or output, without the batch dimension when the model has one."""

    name: TensorName
    dtype: DType
    dims: tuple[Dim, ...] = Field(min_length=1)
    """-1 stands for a dimension that varies."""
    optional: bool = False
    ragged: bool = False
    """Requests whose dimensions differ may still be joined in a batch; the backend gets each by itself."""

    @model_validator(mode="after")
    def _no_empty_dimension(self) -> Self:
        if 0 in self.dims:
            raise ValueError(f"tensor `{self.name}` has a dimension of 0; write -1 for one that varies")
        return self


class QueuePolicy(Strict):
    """How long requests of one class may wait, and how many."""

    max_queue: int = Field(ge=1)
    """Requests waiting beyond this are refused: HTTP 503, gRPC UNAVAILABLE."""
    timeout_us: int = Field(ge=1)
    """Microseconds; a request waiting longer is refused likewise. A request may ask for less."""


class DynamicBatching(Strict):
    """How requests are joined."""

    preferred: tuple[int, ...] = ()
    delay_us: int = Field(default=0, ge=0)
    """Microseconds that the first request of a batch may wait for others."""
    policies: dict[Class, QueuePolicy] = {}
    """Queues by class; none: one queue without limits, which the front door guards.

    Limits cost latency. With them Triton (2.51 and later) no longer prepares a batch for a busy instance, and
    does not wake its batcher for a request that comes while all are busy: that one waits for the next request
    or half a second (measured with two requests in flight: p99 15 ms without, 503 ms with). Before core
    pull request 509 throughput also decays until the model is reloaded (triton-inference-server/server 8870).
    """

    @model_validator(mode="after")
    def _all_classes(self) -> Self:
        if self.policies and set(self.policies) != set(PRIORITY):
            raise ValueError(f"policies need all classes: {', '.join(PRIORITY)}")
        return self


class SequenceBatching(Strict):
    """How requests of sequences are led to copies: those of one to the same, one after the other."""

    most: int = Field(ge=1)
    """At the same time, for each copy."""
    idle_us: int = Field(ge=1)
    """Microseconds after which a sequence that is asked nothing is forgotten."""


class Instances(Strict):
    """Copies of the model in memory."""

    count: int = Field(default=1, ge=1)
    """Copies, on each GPU where there are GPUs."""
    gpus: tuple[int, ...] = ()
    """GPU numbers; none: on the CPU."""


class WarmUp(Strict):
    """One inference of real shape before the model is called ready; it fails the load when it fails."""

    shapes: dict[TensorName, tuple[int, ...]]
    """Input name to a shape without the batch dimension; optional inputs may be left out.

    Values are zeros: Triton's `random_data` fills FP32 with random *bytes*, many of them NaN.
    """

    @model_validator(mode="after")
    def _concrete(self) -> Self:
        if vague := [name for name, shape in self.shapes.items() if min(shape, default=1) < 1]:
            raise ValueError(f"warm-up needs whole shapes, not -1, for {', '.join(sorted(vague))}")
        return self


class ModelConfig(Strict):
    """One model's `config.pbtxt`."""

    name: Name
    backend: Backend
    file: str
    """The file in the version directory that the backend opens."""
    version: int = Field(ge=1)
    """The one version that is served."""
    max_batch_size: int = Field(ge=0)
    inputs: tuple[TensorConfig, ...] = Field(min_length=1)
    outputs: tuple[TensorConfig, ...] = Field(min_length=1)
    batching: DynamicBatching | None = None
    sequences: SequenceBatching | None = None
    instances: Instances = Instances()
    warm_up: WarmUp | None = None
    parameters: dict[str, str] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for kind, tensors in (("input", self.inputs), ("output", self.outputs)):
            names = [tensor.name for tensor in tensors]
            if twice := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"{kind} `{twice.pop()}` is declared twice")
        if self.batching and self.sequences:
            raise ValueError("requests of sequences have a batcher of their own")
        if self.batching:
            self._check_batching(self.batching)
        if self.warm_up:
            self._check_warm_up(self.warm_up)
        return self

    def _check_batching(self, batching: DynamicBatching) -> None:
        if bad := [size for size in batching.preferred if not 1 <= size <= self.max_batch_size]:
            raise ValueError(f"preferred batch size {bad[0]} is not within 1 … {self.max_batch_size}")
        if batching.delay_us and not self.max_batch_size:
            raise ValueError("a queue delay needs max_batch_size: without it nothing is ever joined")

    def _check_warm_up(self, warm_up: WarmUp) -> None:
        inputs = {tensor.name: tensor for tensor in self.inputs}
        needed = {name for name, tensor in inputs.items() if not tensor.optional}
        if missing := needed - set(warm_up.shapes):
            raise ValueError(f"warm-up lacks input {', '.join(sorted(missing))}")
        for name, shape in warm_up.shapes.items():
            if name not in inputs or not _fits(shape, inputs[name].dims):
                raise ValueError(f"warm-up shape {list(shape)} does not fit any input `{name}`")

    def message(self) -> Any:
        """As Triton's own message, `inference.ModelConfig`."""
        config = pb.ModelConfig(
            name=self.name,
            backend=self.backend,
            default_model_filename=self.file,
            max_batch_size=self.max_batch_size,
            version_policy={"specific": {"versions": [self.version]}},
            input=[_input(tensor) for tensor in self.inputs],
            output=[_tensor(tensor) for tensor in self.outputs],
            instance_group=[_instances(self.instances)],
            parameters={key: {"string_value": value} for key, value in self.parameters.items()},
        )
        if self.batching:
            config.dynamic_batching.CopyFrom(_batching(self.batching))
        if self.sequences:
            config.sequence_batching.max_sequence_idle_microseconds = self.sequences.idle_us
            config.sequence_batching.oldest.max_candidate_sequences = self.sequences.most
        if self.warm_up:
            config.model_warmup.append(self._warm_up(self.warm_up))
        return config

    def render(self) -> str:
        """The text of `config.pbtxt`."""
        return HEADER + text_format.MessageToString(self.message())

    def _warm_up(self, warm_up: WarmUp) -> Any:
        types = {tensor.name: data_type(tensor.dtype) for tensor in self.inputs}
        inputs = {
            name: {"data_type": types[name], "dims": shape, "zero_data": True}
            for name, shape in warm_up.shapes.items()
        }
        return pb.ModelWarmup(name="real shape", batch_size=1, inputs=inputs)


def parse(text: str) -> Any:
    """Read a `config.pbtxt` into Triton's message. Raises `DeclarationError` with line and column."""
    try:
        return text_format.Parse(text, pb.ModelConfig())
    except text_format.ParseError as error:
        raise DeclarationError(f"config.pbtxt: {error}") from error


def _fits(shape: tuple[int, ...], dims: tuple[int, ...]) -> bool:
    return len(shape) == len(dims) and all(dim in (-1, size) for size, dim in zip(shape, dims, strict=True))


def _tensor(tensor: TensorConfig) -> dict[str, Any]:
    return {"name": tensor.name, "data_type": data_type(tensor.dtype), "dims": tensor.dims}


def _input(tensor: TensorConfig) -> dict[str, Any]:
    return _tensor(tensor) | {"optional": tensor.optional, "allow_ragged_batch": tensor.ragged}


def _instances(instances: Instances) -> Any:
    kind = pb.ModelInstanceGroup.KIND_GPU if instances.gpus else pb.ModelInstanceGroup.KIND_CPU
    return pb.ModelInstanceGroup(count=instances.count, kind=kind, gpus=instances.gpus)


def _policy(policy: QueuePolicy) -> Any:
    return pb.ModelQueuePolicy(
        timeout_action=pb.ModelQueuePolicy.REJECT,
        default_timeout_microseconds=policy.timeout_us,
        allow_timeout_override=True,
        max_queue_size=policy.max_queue,
    )


def _batching(batching: DynamicBatching) -> Any:
    message = pb.ModelDynamicBatching(
        preferred_batch_size=batching.preferred, max_queue_delay_microseconds=batching.delay_us
    )
    if batching.policies:
        message.priority_levels = len(PRIORITY)
        message.default_priority_level = PRIORITY[DEFAULT_CLASS]
        message.default_queue_policy.CopyFrom(_policy(batching.policies[DEFAULT_CLASS]))
        for name, policy in batching.policies.items():
            if name != DEFAULT_CLASS:
                message.priority_queue_policy[PRIORITY[name]].CopyFrom(_policy(policy))
    return message
