"""What the models inside Triton's Python backend share: many requests in, one answer for each.

Runs in the stub process of the backend, the only place where `triton_python_backend_utils` exists. Keep its
imports few: every model instance pays for them in memory and in start-up time.
"""

from __future__ import annotations

import ctypes
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import triton_python_backend_utils as pb

from serving.triton.watcher import SERVING

Request = Any
Item = TypeVar("Item")
UNWORKED_REQUESTS, UNWORKED_ROWS = "headend_unworked_requests", "headend_unworked_rows"
UNWORKED_EXECUTIONS = "headend_unworked_executions"
"""Triton's counters of what it counts as done although nothing was computed: requests whose client had gone,
and bad ones. Whoever takes its times for those of work would find it faster the more clients give up. By
`model`; executions, of which only those count that had no other request, by `rows`, too."""
_PR_SET_NAME = 15


class BadRequestError(Exception):
    """The request cannot be answered, and its sender can change that."""


class Model(ABC, Generic[Item]):
    """A model as Triton's Python backend drives it; `Item` is one request, read."""

    @abstractmethod
    def load(self, directory: Path, args: dict[str, str], parameters: dict[str, str]) -> None:
        """Get ready; `directory` has the model's files. An error is the load's error, in Triton's words."""

    @abstractmethod
    def read(self, request: Request) -> Item:
        """Read one request. May raise `BadRequestError`."""

    @abstractmethod
    def infer(self, items: Sequence[Item]) -> Sequence[list[Any]]:
        """Output tensors of each item. When this raises, each item is tried by itself: only the bad fail."""

    def initialize(self, args: dict[str, str]) -> None:
        """Called by Triton once, before anything else."""
        config = json.loads(args["model_config"])
        parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        self._name, self._batches = config["name"], config["max_batch_size"] > 0
        self.load(Path(args["model_repository"]) / args["model_version"], args, parameters)
        for sample in config.get("model_warmup", []):
            self._rehearse(config, sample["inputs"])
        self._serving = False
        if not config.get("model_warmup"):
            self._now_serving()

    def execute(self, requests: Sequence[Request]) -> list[Any]:
        """Called by Triton with a batch that it joined; a bad request gets an error and spoils no other."""
        responses: list[Any] = [None] * len(requests)
        items: dict[int, Item] = {}
        for index, request in enumerate(requests):
            if request.is_cancelled():
                responses[index] = _error("the client has gone", pb.TritonError.CANCELLED)
                continue
            try:
                items[index] = self.read(request)
            except BadRequestError as error:
                responses[index] = _error(str(error), pb.TritonError.INVALID_ARG)
        if idle := [request for index, request in enumerate(requests) if index not in items]:
            self._count_unworked(idle, not items)
        for index, response in self._answer(items).items():
            responses[index] = response
        if not self._serving:
            self._now_serving()
        return responses

    def _count_unworked(self, requests: Sequence[Request], is_all: bool) -> None:
        """Tell of requests that nothing is computed for; `is_all`: of this execution's."""
        rows = sum(request.inputs()[0].shape()[0] for request in requests) if self._batches else len(requests)
        _counter(UNWORKED_REQUESTS, model=self._name).increment(len(requests))
        _counter(UNWORKED_ROWS, model=self._name).increment(rows)
        if is_all:
            _counter(UNWORKED_EXECUTIONS, model=self._name, rows=str(rows)).increment(1)

    def _rehearse(self, config: dict[str, Any], inputs: dict[str, Any]) -> None:
        """Run a warm-up before Triton does: its 2.51 may crash when a warm-up fails, not when a load does."""
        batch = [1] if config["max_batch_size"] else []
        tensors = [
            pb.Tensor(
                name,
                np.zeros([*batch, *map(int, about["dims"])], pb.triton_string_to_numpy(about["data_type"])),
            )
            for name, about in inputs.items()
        ]
        outputs = [output["name"] for output in config["output"]]
        request = pb.InferenceRequest(
            model_name=config["name"], inputs=tensors, requested_output_names=outputs
        )
        self.infer([self.read(request)])

    def _answer(self, items: dict[int, Item]) -> dict[int, Any]:
        if not items:
            return {}
        try:
            outputs = self.infer(list(items.values()))
            return {i: pb.InferenceResponse(tensors) for i, tensors in zip(items, outputs, strict=True)}
        except Exception as error:
            if len(items) > 1:
                alone = [self._answer({index: item}) for index, item in items.items()]
                return {index: response for one in alone for index, response in one.items()}
            if isinstance(error, BadRequestError):
                return {index: _error(str(error), pb.TritonError.INVALID_ARG) for index in items}
            pb.Logger.log_error(f"inference failed: {error!r}")
            return {index: _error(f"inference failed: {error}", pb.TritonError.INTERNAL) for index in items}

    def _now_serving(self) -> None:
        """Name the process so that the watcher knows that its end would leave requests without an answer."""
        ctypes.CDLL(None).prctl(_PR_SET_NAME, SERVING, 0, 0, 0)
        self._serving = True


@cache
def _family(name: str) -> Any:
    return pb.MetricFamily(name=name, description="Done without computing", kind=pb.MetricFamily.COUNTER)


@cache
def _counter(name: str, **labels: str) -> Any:
    """One of Triton's metrics: all instances of a model count in the same."""
    return _family(name).Metric(labels=labels)


def _error(message: str, code: Any) -> Any:
    return pb.InferenceResponse(error=pb.TritonError(message, code))
