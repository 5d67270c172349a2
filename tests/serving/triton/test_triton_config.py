"""Triton's configuration: what is refused before it is written, and that text and classes agree."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.errors import DeclarationError
from serving.triton.config import (
    PRIORITY,
    DynamicBatching,
    Instances,
    ModelConfig,
    QueuePolicy,
    TensorConfig,
    WarmUp,
    parse,
)

X = TensorConfig(name="x", dtype="FP32", dims=(3, -1))
Y = TensorConfig(name="y", dtype="FP32", dims=(2,))


def config(**changes: Any) -> ModelConfig:
    given: dict[str, Any] = {
        "name": "m",
        "backend": "python",
        "file": "model.py",
        "version": 1,
        "max_batch_size": 8,
        "inputs": (X,),
        "outputs": (Y,),
    }
    return ModelConfig(**(given | changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"inputs": (X, X)}, "input `x` is declared twice"),
        ({"outputs": ()}, "at least 1"),
        ({"max_batch_size": -1}, "greater than or equal to 0"),
        ({"batching": DynamicBatching(preferred=(16,))}, "preferred batch size 16 is not within 1 … 8"),
        ({"max_batch_size": 0, "batching": DynamicBatching(delay_us=1)}, "needs max_batch_size"),
        ({"warm_up": WarmUp(shapes={})}, "warm-up lacks input x"),
        ({"warm_up": WarmUp(shapes={"x": (3, 4), "z": (1,)})}, "does not fit any input `z`"),
        ({"warm_up": WarmUp(shapes={"x": (2, 4)})}, "does not fit any input `x`"),
        ({"name": "Bad Name"}, "should match pattern"),
        ({"version": 0}, "greater than or equal to 1"),
    ],
)
def test_refuses(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        config(**changes)


def test_refuses_a_dimension_of_nothing() -> None:
    with pytest.raises(ValidationError, match="dimension of 0"):
        TensorConfig(name="x", dtype="FP32", dims=(0,))


def test_refuses_a_warm_up_without_whole_shapes() -> None:
    with pytest.raises(ValidationError, match="not -1, for x"):
        WarmUp(shapes={"x": (3, -1)})


def test_refuses_policies_for_some_classes_only() -> None:
    with pytest.raises(ValidationError, match="all classes: live, interactive, batch"):
        DynamicBatching(policies={"live": QueuePolicy(max_queue=1, timeout_us=1)})


def test_policies_reach_every_class() -> None:
    policies = {name: QueuePolicy(max_queue=level, timeout_us=level * 10) for name, level in PRIORITY.items()}
    said = parse(config(batching=DynamicBatching(policies=policies)).render()).dynamic_batching
    assert (said.priority_levels, said.default_priority_level) == (3, 2)
    assert said.default_queue_policy.max_queue_size == 2
    assert {k: v.default_timeout_microseconds for k, v in said.priority_queue_policy.items()} == {
        1: 10,
        3: 30,
    }


def test_reading_says_where_a_text_is_wrong() -> None:
    with pytest.raises(DeclarationError, match="1:7"):
        parse("name: nonsense nonsense")


names = st.text(min_size=1, max_size=20)
dims = st.lists(st.integers(-1, 4096).filter(bool), min_size=1, max_size=5).map(tuple)
dtypes = st.sampled_from(["FP32", "FP16", "INT64", "INT32", "INT8", "UINT8", "BOOL", "BYTES"])
tensors = st.builds(
    TensorConfig, name=names, dtype=dtypes, dims=dims, optional=st.booleans(), ragged=st.booleans()
)
distinct = st.lists(tensors, min_size=1, max_size=4, unique_by=lambda tensor: tensor.name).map(tuple)


@given(
    inputs=distinct,
    outputs=distinct,
    batch=st.integers(1, 64),
    count=st.integers(1, 8),
    gpus=st.lists(st.integers(0, 7), max_size=4, unique=True).map(tuple),
    parameters=st.dictionaries(names, names, max_size=3),
)
def test_text_and_message_say_the_same(
    inputs: tuple[TensorConfig, ...],
    outputs: tuple[TensorConfig, ...],
    batch: int,
    count: int,
    gpus: tuple[int, ...],
    parameters: dict[str, str],
) -> None:
    made = config(
        inputs=inputs,
        outputs=outputs,
        max_batch_size=batch,
        batching=DynamicBatching(preferred=(batch,), delay_us=100),
        instances=Instances(count=count, gpus=gpus),
        parameters=parameters,
    )
    read = parse(made.render())
    assert read == made.message()
    assert [tensor.name for tensor in read.input] == [tensor.name for tensor in inputs]
    assert read.instance_group[0].gpus == list(gpus)
