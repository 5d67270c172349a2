"""One model's Triton configuration, derived from card, fleet and site. Pure: no file is touched."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

from models.card import Card, Precision, Tensor
from serving.fleet import PATIENCE, Class, Fleet
from serving.triton.config import (
    Backend,
    DynamicBatching,
    Instances,
    ModelConfig,
    QueuePolicy,
    SequenceBatching,
    TensorConfig,
    WarmUp,
)
from serving.triton.instances import gpus, instances, threads

Flavour = Literal["embedded", "container"]
"""`embedded`: the wheel's binary, which has the Python backend only; `container`: NVIDIA's image."""


def model_config(
    fleet: Fleet,
    site: str,
    card: Card,
    *,
    flavour: Flavour,
    version: int,
    bundle: str,
    engine: bool = False,
) -> ModelConfig:
    """Derive the configuration.

    Args:
        fleet: says precision, instances and who refuses what is too much.
        site: says which GPUs and how many threads there are.
        card: says the tensors and how they are batched.
        flavour: which Triton will read it.
        version: number of the version directory to serve.
        bundle: digest of the bundle it comes from, so that one may ask the server what it runs.
        engine: a TensorRT plan is served instead of the ONNX graph.
    """
    use = fleet.models[card.name]
    backend = backend_of(card, flavour, engine=engine)
    return ModelConfig(
        name=card.name,
        backend=backend,
        file={"python": "model.py", "onnxruntime": "model.onnx", "tensorrt": "model.plan"}[backend],
        version=version,
        max_batch_size=card.serving.max_batch_size,
        inputs=tuple(_tensor(tensor, ragged=_ragged(card)) for tensor in card.serving.asked),
        outputs=tuple(_tensor(tensor) for tensor in card.serving.answered),
        batching=None if card.serving.sequences else _batching(card, limits=use.admission == "triton"),
        sequences=_sequences(card),
        instances=Instances(count=instances(fleet, site, card), gpus=gpus(fleet, site, card)),
        warm_up=_warm_up(card),
        parameters={
            "bundle": bundle,
            **_parameters(backend, use.precision, threads(fleet, site, card)),
            **_states(card),
        },
    )


def backend_of(card: Card, flavour: Flavour, *, engine: bool) -> Backend:
    """Which of Triton's backends serves `card`; `engine`: there is a TensorRT plan."""
    if flavour == "embedded" or card.serving.runtime == "recognizer" or card.serving.sequences:
        return "python"
    return "tensorrt" if engine else "onnxruntime"


def _ragged(card: Card) -> bool:
    # A recogniser pads by itself; a plain graph can only join requests of one shape.
    return card.serving.runtime == "recognizer" and card.serving.max_batch_size > 0


def _tensor(tensor: Tensor, *, ragged: bool = False) -> TensorConfig:
    return TensorConfig(
        name=tensor.name,
        dtype=tensor.dtype,
        dims=tuple(tensor.shape),
        optional=tensor.optional,
        ragged=ragged,
    )


def _batching(card: Card, *, limits: bool) -> DynamicBatching | None:
    serving = card.serving
    if not (serving.max_batch_size or limits):
        return None
    policies: Mapping[Class, QueuePolicy] = {
        name: QueuePolicy(
            max_queue=serving.max_queue, timeout_us=int(serving.queue_timeout_ms * 1000 * factor)
        )
        for name, factor in PATIENCE.items()
    }
    return DynamicBatching(
        preferred=tuple(serving.preferred_batch_sizes),
        delay_us=serving.queue_delay_us,
        policies=dict(policies) if limits else {},
    )


def _sequences(card: Card) -> SequenceBatching | None:
    wanted = card.serving.sequences
    return SequenceBatching(most=wanted.most, idle_us=wanted.idle_s * 1_000_000) if wanted else None


def _states(card: Card) -> dict[str, str]:
    """What `onnx_model` has to know to keep them."""
    wanted, inputs = card.serving.sequences, {tensor.name: tensor for tensor in card.serving.inputs}
    if wanted is None:
        return {}
    states = [
        {"input": name, "output": output, "dtype": inputs[name].dtype, "shape": inputs[name].shape}
        for name, output in wanted.states.items()
    ]
    return {"states": json.dumps(states), "sequence_idle_s": str(wanted.idle_s)}


def _warm_up(card: Card) -> WarmUp | None:
    shapes = {t.name: tuple(t.example or t.shape) for t in card.serving.asked if not t.optional}
    # Triton warms up without a sequence, and a model with states has no answer to that.
    if not card.serving.warmup or card.serving.sequences or any(-1 in shape for shape in shapes.values()):
        return None
    return WarmUp(shapes=shapes)


def _parameters(backend: Backend, precision: Precision, threads: int) -> dict[str, str]:
    if backend == "tensorrt":
        return {}
    if backend == "onnxruntime":
        return {"intra_op_thread_count": str(threads), "inter_op_thread_count": "1"}
    return {"precision": precision, "threads": str(threads)}
