"""Reads what the Tritons of a local fleet count of themselves, beside the load.

Triton's metrics (https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/
metrics.html) are counters since its start: a sample is the difference of two readings. Each request adds the
whole duration of the execution that answered it, whatever else was in the batch.
"""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import httpx

from loadtests.results import ServerSample

_LINE = re.compile(r'^nv_inference_(\w+)\{.*?model="([^"]+)".*\} (\S+)$')
_COMPUTE = ("compute_input_duration_us", "compute_infer_duration_us", "compute_output_duration_us")
_TIMEOUT_S = 2.0

Counters = Mapping[str, Mapping[str, float]]
"""Model to counter to value."""


@dataclass(frozen=True)
class _Reading:
    at: float
    counters: Counters


class TritonSamples:
    """Samples in a thread of its own until `finish`. `begin`: the campaign's start, monotonic clock."""

    def __init__(self, ports: Callable[[], Mapping[str, int]], begin: float, every_s: float) -> None:
        self._ports, self._begin, self._every_s = ports, begin, every_s
        self._last: dict[str, _Reading] = {}
        self._samples: list[ServerSample] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin with the campaign."""
        self._thread.start()

    def finish(self) -> list[ServerSample]:
        """Stop; returns all samples in order of time."""
        self._over.set()
        self._thread.join()
        return self._samples

    def _run(self) -> None:
        due = self._begin
        with httpx.Client(timeout=_TIMEOUT_S, trust_env=False) as client:
            while not self._over.wait(max(0.0, due - time.monotonic())):
                for site, port in self._ports().items():
                    self._look(client, site, port)
                due = max(due + self._every_s, time.monotonic())

    def _look(self, client: httpx.Client, site: str, port: int) -> None:
        try:
            text = client.get(f"http://127.0.0.1:{port}/metrics").text
        except httpx.HTTPError:  # a site that is down or starting has nothing to tell
            self._last.pop(site, None)
            return
        now = _Reading(time.monotonic() - self._begin, parse(text))
        before = self._last.get(site)
        self._last[site] = now
        if before is not None:
            self._samples += _samples(site, before, now)


def parse(text: str) -> Counters:
    """Triton's metrics by model; versions of one model are added up."""
    found: dict[str, defaultdict[str, float]] = {}
    for line in text.splitlines():
        if match := _LINE.match(line):
            counter, model, value = match.groups()
            found.setdefault(model, defaultdict(float))[counter] += float(value)
    return found


def _samples(site: str, before: _Reading, now: _Reading) -> Iterator[ServerSample]:
    for model, counters in now.counters.items():
        old = before.counters.get(model, {})
        grown = {name: value - old.get(name, 0.0) for name, value in counters.items()}
        requests, executions = grown.get("request_success", 0.0), grown.get("exec_count", 0.0)
        if requests < 0:  # Triton was started anew meanwhile
            continue
        each = max(1.0, requests)
        yield ServerSample(
            at_s=now.at,
            site=site,
            model=model,
            per_second=requests / (now.at - before.at),
            queue_ms=grown.get("queue_duration_us", 0.0) / each / 1e3,
            compute_ms=sum(grown.get(name, 0.0) for name in _COMPUTE) / each / 1e3,
            batch=grown.get("count", 0.0) / max(1.0, executions),
            pending=counters.get("pending_request_count", 0.0),
        )
