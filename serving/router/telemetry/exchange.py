"""Summaries between agents: one question to each other site's peer listener, twice a second.

The question carries this site's summary, its answer the other's and, from a relay, what the asker lacks of
all other sites: a site that cannot be reached from outside asks, and is told of by the relays it asks.
Each peer has a task of its own, so that one that does not answer delays nobody; it is asked less often until
it answers again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from os import urandom

import httpx

from serving.router.telemetry.board import Board
from serving.router.telemetry.links import PADDING_CHARACTERS, LinkMeter, is_paced
from serving.router.telemetry.message import (
    MOST_ANSWER_BYTES,
    MOST_QUESTION_BYTES,
    Message,
    RefusedError,
    decode,
    encode,
)

PATH = "/-/agent/telemetry"
TOOK_HEADER = "x-headend-took-ms"
"""On an answer: how long the other agent worked on it."""
PERIOD_S = 0.5
_MOST_PER_SECOND = 80
"""Questions to all peers together: with more than forty peers, those that are no relays come less often."""
_RELAYS_ASKED = 2
"""Of many relays a site asks these all the time, each site others."""
_TIMEOUT_S = 2.0
_LONGEST_PAUSE_S = 10.0

_log = logging.getLogger("headend.agent")


@dataclass(frozen=True)
class Peer:
    """Another site, as its agent is reached."""

    site: str
    url: str
    """Of its peer listener: `http://10.0.0.9:8081`."""
    relay: bool = False
    sni: str = ""
    """The name in its certificate; empty without TLS."""


def periods(site: str, peers: Mapping[str, Peer]) -> dict[str, float]:
    """How often `site` asks each of `peers`, as seconds between two questions."""
    relays = [peer.site for peer in peers.values() if peer.relay]
    relays.sort(key=lambda relay: sha256(f"{site} {relay}".encode()).digest())
    often = set(relays[:_RELAYS_ASKED]) if relays else set(peers)
    seldom = len(peers) - len(often)
    budget = max(_MOST_PER_SECOND - len(often) / PERIOD_S, _MOST_PER_SECOND / 4)
    return {
        peer: PERIOD_S * max(1.0, len(often) / PERIOD_S / _MOST_PER_SECOND)
        if peer in often
        else max(PERIOD_S, seldom / budget)
        for peer in peers
    }


class Exchange:
    """Of one agent with all others. `client`: gives the one to ask with, which may change with time."""

    def __init__(
        self,
        fleet: str,
        site: str,
        peers: Mapping[str, Peer],
        board: Board,
        client: Callable[[], httpx.AsyncClient],
    ) -> None:
        self._fleet, self._site, self._peers, self._board = fleet, site, peers, board
        self._client = client
        paced = is_paced()
        self.links = {peer: LinkMeter(time.monotonic, paced=paced) for peer in peers}
        self.failures: Counter[str] = Counter()
        """Questions without an answer, by site."""

    async def run(self) -> None:
        """Ask all peers until cancelled."""
        paces = periods(self._site, self._peers)
        async with asyncio.TaskGroup() as tasks:
            for site, peer in self._peers.items():
                tasks.create_task(self._keep_asking(peer, paces[site]))

    async def _keep_asking(self, peer: Peer, period_s: float) -> None:
        pause = period_s
        await asyncio.sleep(random.uniform(0, period_s))  # not all at once
        while True:
            begun = time.monotonic()
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    await self._ask(peer)
                pause = period_s
            except (httpx.HTTPError, httpx.StreamError, TimeoutError, RefusedError, ValueError) as error:
                self._failed(peer, error)
                pause = min(max(pause * 2, period_s), max(period_s, _LONGEST_PAUSE_S))
            await asyncio.sleep(max(0.0, begun + pause * random.uniform(0.9, 1.1) - time.monotonic()))

    def _failed(self, peer: Peer, error: Exception) -> None:
        self.failures[peer.site] += 1
        if isinstance(error, RefusedError):
            self._board.refuse(error.reason)
        if self.failures[peer.site] == 1:
            _log.warning("site %s does not answer: %s", peer.site, str(error) or type(error).__name__)

    async def _ask(self, peer: Peer) -> None:
        """One question. Raises when there is no good answer."""
        link = self.links[peer.site]
        padded = link.wants_padding()
        question = encode(
            Message(
                fleet=self._fleet,
                site=self._site,
                summaries=self._board.news({}, [self._site]),
                known=self._board.known(),
                padding=b64encode(urandom(PADDING_CHARACTERS * 3 // 4)).decode() if padded else "",
            )
        )
        extensions = {"sni_hostname": peer.sni} if peer.sni else {}
        begun = time.monotonic()
        request = self._client().stream("POST", peer.url + PATH, content=question, extensions=extensions)
        async with request as response:
            took = time.monotonic() - begun
            if response.status_code != httpx.codes.OK:
                raise ValueError(f"status {response.status_code}")
            link.add(
                len(question), took - float(response.headers.get(TOOK_HEADER, "0")) / 1000, padded=padded
            )
            answer = decode(await _body(response), MOST_ANSWER_BYTES)
        for signed in answer.summaries:
            self._board.take(signed, peer.site)


async def _body(response: httpx.Response) -> bytes:
    """No more than an answer may have."""
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) > MOST_ANSWER_BYTES:
            raise RefusedError("size", "the answer does not end")
    return bytes(data)


class Answerer:
    """The other side: takes what a question tells, and answers it. `relay`: with all sites' summaries."""

    def __init__(self, fleet: str, site: str, board: Board, *, relay: bool) -> None:
        self._fleet, self._site, self._board, self._relay = fleet, site, board, relay

    def answer(self, question: bytes, sender: str) -> bytes:
        """Raises `RefusedError`. `sender`: the site that its certificate names; empty: it has none."""
        return encode(self._answer(decode(question, MOST_QUESTION_BYTES), sender))

    def _answer(self, question: Message, sender: str) -> Message:
        if question.fleet != self._fleet:
            raise RefusedError("fleet", f"this is fleet {self._fleet}")
        if question.site == self._site or question.site not in self._board.sites:
            raise RefusedError("site", f"{question.site} is no other site of this fleet")
        if sender and sender != question.site:
            raise RefusedError("site", f"the certificate is of site {sender}, not of {question.site}")
        for signed in question.summaries:
            self._board.take(signed, question.site)
        sites = self._board.sites - {question.site} if self._relay else {self._site}
        return Message(fleet=self._fleet, site=self._site, summaries=self._board.news(question.known, sites))
