"""Recorded inputs of bundles, asked of both versions of a model through the judge.

They come first, before any client's request meets the new version, and they are what there is at a site
without traffic. Recognisers have none of this kind: their recorded cases are of single graphs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from models.bundle import Bundle
from models.card import Card
from models.errors import HeadendError
from models.recorded import Recorded
from serving.site.rollout.judging import RECORDED_HEADER

_LIMIT_S = 120.0
_APART_S = 0.1
"""Between two of them, so that a busy moment of the machine falls on few."""


def cases(bundles: Iterable[Bundle]) -> list[Recorded]:
    """What can be asked of a served model."""
    return [case for bundle in bundles if bundle.card.serving.runtime == "onnx" for case in bundle.recorded()]


def replay(card: Card, recorded: list[Recorded], judge_grpc: int, times: int) -> int:
    """Have the judge compare `recorded` in turn until it was asked `times` times; returns how often it was.

    Of a model with states each is a sequence of its own, which begins and ends with it.
    Raises `HeadendError` when the judge itself does not answer.
    """
    # Here, because it brings gRPC along: half a second that other commands need not wait.
    from tritonclient.utils import InferenceServerException

    if not recorded:
        return 0
    try:
        _ask(card, recorded, judge_grpc, times)
    except InferenceServerException as error:
        raise HeadendError(
            f"The judge does not answer: {error}", hint="See: headend logs SITE judge"
        ) from error
    return times


def _ask(card: Card, recorded: list[Recorded], judge_grpc: int, times: int) -> None:
    from tritonclient.grpc import InferenceServerClient

    asked = {tensor.name for tensor in card.serving.asked}
    alone = {"sequence_start": True, "sequence_end": True} if card.serving.sequences else {}
    with InferenceServerClient(f"127.0.0.1:{judge_grpc}") as client:
        for number in range(times):
            time.sleep(_APART_S if number else 0)
            case = recorded[number % len(recorded)].case
            inputs = [_input(name, value) for name, value in case.inputs.items() if name in asked]
            sequence = {"sequence_id": uuid4().int >> 65, **alone} if alone else {}
            client.infer(
                card.name, inputs, headers={RECORDED_HEADER: "1"}, client_timeout=_LIMIT_S, **sequence
            )


def _input(name: str, value: Any) -> Any:
    from tritonclient.grpc import InferInput
    from tritonclient.utils import np_to_triton_dtype

    tensor = InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
    tensor.set_data_from_numpy(value)
    return tensor
