"""What the models inside Triton's Python backend share: many requests in, one answer for each.

Runs in the backend's stub process, the only place where `triton_python_backend_utils` exists. Keep its imports
few: every model instance pays for them in memory and in start-up time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import triton_python_backend_utils as pb

Request = Any
Response = Any
Item = TypeVar("Item")


class BadRequestError(Exception):
    """The request cannot be answered, and its sender can change that."""


def parameters(args: dict[str, str]) -> dict[str, str]:
    """The model's parameters, of `TritonPythonModel.initialize`'s argument."""
    config = json.loads(args["model_config"])
    return {key: value["string_value"] for key, value in config.get("parameters", {}).items()}


def version_directory(args: dict[str, str]) -> Path:
    """Where the model's files are."""
    return Path(args["model_repository"]) / args["model_version"]


def answer(
    requests: Sequence[Request],
    prepare: Callable[[Request], Item],
    run: Callable[[Sequence[Item]], Sequence[list[Any]]],
) -> list[Response]:
    """Answer every request; one that is bad gets an error and leaves the others alone.

    Args:
        requests: a batch as Triton joined it.
        prepare: reads one request. May raise `BadRequestError`.
        run: gives the output tensors of each item. When it raises, each item is run by itself, so that only
            the bad one fails.
    """
    responses: list[Response] = [None] * len(requests)
    items: dict[int, Item] = {}
    for index, request in enumerate(requests):
        if request.is_cancelled():
            responses[index] = _error("the client has gone", pb.TritonError.CANCELLED)
            continue
        try:
            items[index] = prepare(request)
        except BadRequestError as error:
            responses[index] = _error(str(error), pb.TritonError.INVALID_ARG)
    for index, response in _run(items, run).items():
        responses[index] = response
    return responses


def _run(items: dict[int, Item], run: Callable[[Sequence[Item]], Sequence[list[Any]]]) -> dict[int, Response]:
    if not items:
        return {}
    try:
        outputs = run(list(items.values()))
        return {index: pb.InferenceResponse(tensors) for index, tensors in zip(items, outputs, strict=True)}
    except Exception as error:
        if len(items) > 1:
            return {
                key: value for index, item in items.items() for key, value in _run({index: item}, run).items()
            }
        (index,) = items
        if isinstance(error, BadRequestError):
            return {index: _error(str(error), pb.TritonError.INVALID_ARG)}
        pb.Logger.log_error(f"inference failed: {error!r}")
        return {index: _error(f"inference failed: {error}", pb.TritonError.INTERNAL)}


def _error(message: str, code: Any) -> Response:
    return pb.InferenceResponse(error=pb.TritonError(message, code))
