"""Clients that hold gRPC streams open, ask on them at a steady pace and check every answer."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import numpy as np
from tritonclient import grpc as triton

from loadtests.testbed.streams.versions import BYTES, PLAIN, TALLY

EVERY_S = 0.2
"""Between two messages of a stream."""
SHORTEST_S = 5.0
_ANSWER_WITHIN_S = 15.0
_ENDS_WITHIN_S = 60.0


@dataclass(frozen=True)
class Ended:
    """One stream, as its client saw it; times are of the monotonic clock."""

    kind: str
    """`stream`: messages that have nothing to do with each other; `sequence`: the model remembers."""
    site: str
    """Whose front door it was opened at."""
    began: float
    ended: float
    messages: int
    slowest_s: float
    """Longest wait for an answer."""
    broken: str
    """Why it ended before its time; empty: it did not."""


@dataclass
class Clients:
    """Those of all front doors."""

    doors: dict[str, str]
    longest_s: float
    """How long a stream is open at most."""
    ended: list[Ended] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self, site: str, model: str) -> None:
        """One stream after the other, each of another length."""
        while not self._over.is_set():
            self.ended.append(self._stream(site, model, random.uniform(SHORTEST_S, self.longest_s)))

    def _stream(self, site: str, model: str, seconds: float) -> Ended:
        began = time.monotonic()
        messages, slowest, broken = 0, 0.0, ""
        try:
            for waited in _talk(self.doors[site], model, began + seconds):
                messages, slowest = messages + 1, max(slowest, waited)
        except Exception as error:  # whatever it is, the client's stream is broken
            broken = f"{type(error).__name__}: {error}"[:300]
            time.sleep(EVERY_S)
        kind = "sequence" if model == TALLY else "stream"
        return Ended(kind, site, began, time.monotonic(), messages, slowest, broken)

    def stop(self) -> None:
        """Open no more; those that are open go on to their end."""
        self._over.set()


def _talk(door: str, model: str, until: float) -> Iterator[float]:
    """Ask on one stream; yields the seconds of each answer. Raises what breaks it."""
    answers: queue.Queue[tuple[triton.InferResult | None, Exception | None]] = queue.Queue()
    client = triton.InferenceServerClient(door)
    client.start_stream(lambda result, error: answers.put((result, error)))
    sequence, total, first, last = uuid4().int >> 65, 0, True, False
    rng = np.random.default_rng()
    try:
        while not last:
            data = rng.integers(0, 256, (1, BYTES), np.uint8)
            tensor = triton.InferInput("data", [1, BYTES], "UINT8")
            tensor.set_data_from_numpy(data)
            last = time.monotonic() >= until
            about = {"sequence_id": sequence, "sequence_start": first, "sequence_end": last}
            begun = time.monotonic()
            client.async_stream_infer(model, [tensor], **(about if model == TALLY else {}))
            result, error = answers.get(timeout=_ANSWER_WITHIN_S)
            if error is not None:
                raise error
            total = (0 if model == PLAIN else total) + int(data.sum())
            if result is None or (said := int(result.as_numpy("total")[0, 0])) != total:
                raise ValueError(f"a wrong answer: {said if result else 'none'} in place of {total}")
            first = False
            yield time.monotonic() - begun
            time.sleep(EVERY_S)
    finally:
        client.stop_stream(cancel_requests=True)
        client.close()


@contextmanager
def clients(doors: dict[str, str], models: Sequence[str], each: int, longest_s: float) -> Iterator[Clients]:
    """`each` clients for every front door and model; at the end all streams have come to theirs."""
    made = Clients(doors, longest_s)
    threads = [
        threading.Thread(target=made.run, args=(site, model), daemon=True)
        for site in doors
        for model in models
        for _ in range(each)
    ]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        made.stop()
        for thread in threads:
            thread.join(longest_s + _ENDS_WITHIN_S)
