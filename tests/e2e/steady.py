"""Clients that ask all the time, by every protocol at every front door; every answer is kept.

They pause between requests: what they prove is that none fails, and other tests run beside them.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from waiting import until

PICTURE = np.zeros((1, 224, 224, 3), np.float32)
ADVERT = "老地方百家乐，加微信"
_PAUSE_S = 0.4
_READ_S = 0.3
"""How often a client looks whether its front door still takes clients, as a load balancer would."""

Ask = Callable[[], str]
"""Asks once; says what came, in a word. Raises what a client sees when it fails."""


@dataclass
class Clients:
    """One for each kind of request and front door; whose door says that it is closing goes to another."""

    doors: dict[str, str]
    """By site, `host:port`."""
    kinds: Mapping[str, Callable[[str, Mapping[str, str]], Ask]]
    headers: Mapping[str, str] = field(default_factory=dict)
    answers: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """How many: site whose door was asked, kind of request, what came."""
    failures: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def said(self, kind: str) -> set[str]:
        """All that came of one kind of request so far."""
        return {what for _, asked, what in self.answers if asked == kind}

    def count(self, door: str) -> int:
        """Answers so far at one front door."""
        return sum(number for (site, _, _), number in self.answers.items() if site == door)

    def run(self, home: str, kind: str) -> None:
        """Ask until the end."""
        looked, site, ask = 0.0, "", None
        # One for all looks: to make a client reads all authorities of the machine, tens of milliseconds.
        with httpx.Client(timeout=20, trust_env=False) as looker:
            while not self._ended.is_set():
                try:
                    if time.monotonic() - looked > _READ_S:
                        looked, before, site = time.monotonic(), site, self._open(looker, home)
                        if site != before:
                            ask = self.kinds[kind](self.doors[site], self.headers)
                    assert ask is not None
                    self.answers[site, kind, ask()] += 1
                except Exception as error:  # whatever it is, the client saw it
                    what = f"{type(error).__name__}: {error}"
                    self.failures.append(f"{time.strftime('%H:%M:%S')} {kind} at {site}: {what}")
                time.sleep(_PAUSE_S)

    def _open(self, looker: httpx.Client, home: str) -> str:
        """The first front door that takes clients, from one's own on."""
        for site in (home, *(each for each in self.doors if each != home)):
            try:
                # A connection for each look: a kept one would be to a front door that has closed.
                headers = {"connection": "close"}
                answer = looker.get(f"http://{self.doors[site]}/readyz", headers=headers)
                if answer.status_code == 200:
                    return site
            except httpx.TransportError:  # it is gone
                continue
        return home

    def stop(self) -> None:
        """Let everyone end after the present request."""
        self._ended.set()


@contextmanager
def clients(
    doors: dict[str, str],
    kinds: Mapping[str, Callable[[str, Mapping[str, str]], Ask]],
    headers: Mapping[str, str] | None = None,
) -> Iterator[Clients]:
    """Clients at work; the block begins when each has been answered, and what failed must be looked at."""
    made = Clients(doors, kinds, headers or {})
    threads = [threading.Thread(target=made.run, args=(site, kind)) for site in doors for kind in kinds]
    for thread in threads:
        thread.start()
    try:
        until(
            lambda: made.failures or len({each[:2] for each in made.answers}) == len(threads), "answers", 60
        )
        yield made
    finally:
        made.stop()
        for thread in threads:
            thread.join(90)


def _infer(module: Any, door: str, headers: Mapping[str, str]) -> Ask:
    """Scores a black picture, whose answer is always the same."""
    options = {"network_timeout": 60.0, "connection_timeout": 60.0} if module is triton_http else {}
    client = module.InferenceServerClient(door, **options)
    tensor = module.InferInput("input:0", PICTURE.shape, "FP32")
    tensor.set_data_from_numpy(PICTURE)

    def ask() -> str:
        scores = client.infer("open-nsfw", [tensor], headers=dict(headers)).as_numpy("outputs")
        return " ".join(f"{score:.2f}" for score in scores[0])

    return ask


def scores_by_http(door: str, headers: Mapping[str, str]) -> Ask:
    """A model, by HTTP."""
    return _infer(triton_http, door, headers)


def scores_by_grpc(door: str, headers: Mapping[str, str]) -> Ask:
    """A model, by gRPC."""
    return _infer(triton_grpc, door, headers)


def review(door: str, headers: Mapping[str, str]) -> Ask:
    """An app; says what it decided, by which policy."""
    client = httpx.Client(base_url=f"http://{door}", timeout=60, headers=dict(headers))

    def ask() -> str:
        answer = client.post("/v1/moderations", json={"model": "review", "input": ADVERT})
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        found = answer.json()["results"][0]["headend"]
        return f"{found['decision']} {found['policy']['name']}"

    return ask
