"""What one Triton counts of its models.

Its metrics give failures by reason, what waits now, and what was done without computing
(https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/metrics.html), its
statistics the times, by batch size too (https://docs.nvidia.com/deeplearning/triton-inference-server/
user-guide/docs/protocol/extension_statistics.html). Both are counters since its start, except what waits.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import httpx
from pydantic import BaseModel, Field, TypeAdapter

_SAMPLE = re.compile(
    r"^(nv_inference_(?:pending_request_count|request_failure)|headend_unworked_\w+)\{([^}]*)\} (\S+)$",
    re.MULTILINE,
)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_NOT_OURS = "CANCELED"
"""The reason of a failure that was the client's wish."""

Counter = Literal["answered", "errors", "rows", "queued", "queue_ns", "service_ns", "total_ns"]
Key = tuple[str, Counter] | tuple[str, Literal["executions", "execution_ns"], int]
"""Model, counter and, where it counts executions, their rows."""


class _Duration(BaseModel):
    count: Annotated[int, Field(ge=0)] = 0
    ns: Annotated[int, Field(ge=0)] = 0


class _Inference(BaseModel):
    success: _Duration
    queue: _Duration
    compute_input: _Duration
    compute_infer: _Duration
    compute_output: _Duration


class _Batch(BaseModel):
    batch_size: Annotated[int, Field(ge=0)]
    compute_input: _Duration
    compute_infer: _Duration
    compute_output: _Duration

    @property
    def rows(self) -> int:
        return max(1, self.batch_size)  # 0: the model does not batch


class _Model(BaseModel):
    name: str
    inference_count: Annotated[int, Field(ge=0)] = 0
    inference_stats: _Inference
    batch_stats: list[_Batch] = []


class _Statistics(BaseModel):
    model_stats: list[_Model] = []


class _Ready(BaseModel):
    name: str


_INDEX = TypeAdapter(list[_Ready])


@dataclass(frozen=True)
class TritonReading:
    """All of one Triton at one moment; versions of one model are added up."""

    ready: frozenset[str]
    """Models that answer now."""
    counters: Mapping[Key, float]
    unworked: Mapping[Key, float]
    """What Triton counted among these although nothing was computed (see `serving.triton.answering`)."""
    waiting: Mapping[str, float]
    """Requests that wait to be executed, by model."""
    batch_sizes: Mapping[str, tuple[int, ...]]
    """Rows of the executions that there have been, by model."""


async def read(client: httpx.AsyncClient, http_port: int, metrics_port: int) -> TritonReading:
    """Ask the Triton on this machine. Raises `httpx.HTTPError` or `ValueError` when that does not work."""
    base = f"http://127.0.0.1:{http_port}/v2"
    statistics = await client.get(f"{base}/models/stats")
    index = await client.post(f"{base}/repository/index", json={"ready": True})
    metrics = await client.get(f"http://127.0.0.1:{metrics_port}/metrics")
    for response in (statistics, index, metrics):
        response.raise_for_status()
    return parse(statistics.content, index.content, metrics.text)


def parse(statistics: bytes, index: bytes, metrics: str) -> TritonReading:
    """Make sense of Triton's answers. Raises `ValueError` when they are not Triton's."""
    counters: defaultdict[Key, float] = defaultdict(float)
    sizes: defaultdict[str, set[int]] = defaultdict(set)
    for model in _Statistics.model_validate_json(statistics).model_stats:
        _count(counters, model)
        sizes[model.name] |= {batch.rows for batch in model.batch_stats}
    waiting: defaultdict[str, float] = defaultdict(float)
    unworked: defaultdict[Key, float] = defaultdict(float)
    for what, labels, value in _SAMPLE.findall(metrics):
        label = dict(_LABEL.findall(labels))
        match what:
            case "nv_inference_pending_request_count":
                waiting[label["model"]] += float(value)
            case "headend_unworked_requests":
                unworked[label["model"], "answered"] += float(value)
            case "headend_unworked_rows":
                unworked[label["model"], "rows"] += float(value)
            case "headend_unworked_executions":
                unworked[label["model"], "executions", int(label["rows"])] += float(value)
            case "nv_inference_request_failure" if label.get("reason") != _NOT_OURS:
                counters[label["model"], "errors"] += float(value)
    ready = frozenset(model.name for model in _INDEX.validate_json(index))
    batch_sizes = {name: tuple(sorted(each)) for name, each in sizes.items()}
    return TritonReading(ready, dict(counters), dict(unworked), dict(waiting), batch_sizes)


def _count(counters: defaultdict[Key, float], model: _Model) -> None:
    name, stats = model.name, model.inference_stats
    counters[name, "answered"] += stats.success.count
    counters[name, "rows"] += model.inference_count
    counters[name, "total_ns"] += stats.success.ns
    counters[name, "queued"] += stats.queue.count
    counters[name, "queue_ns"] += stats.queue.ns
    # Each request of a batch counts the whole execution: right for the time it takes, wrong for capacity.
    counters[name, "service_ns"] += _worked(stats)
    for batch in model.batch_stats:
        counters[name, "executions", batch.rows] += batch.compute_infer.count
        counters[name, "execution_ns", batch.rows] += _worked(batch)


def _worked(of: _Inference | _Batch) -> int:
    return of.compute_input.ns + of.compute_infer.ns + of.compute_output.ns
