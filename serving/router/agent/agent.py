"""The agent of one site: read, exchange, plan, write, and see that Envoy takes it.

Envoy needs none of this to go on: an agent that dies, hangs or is cut off leaves the last plan working, and
one that starts again continues from it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import TypeVar

import httpx

from models.errors import HeadendError
from serving.identity import SiteIdentity, server_name
from serving.router import transition
from serving.router.agent.config import AgentConfig
from serving.router.agent.identity import Identity
from serving.router.agent.issuers import IssuerKeys
from serving.router.agent.kept import pool_of
from serving.router.agent.pace import paces, round_trips
from serving.router.agent.planning import Planner
from serving.router.agent.renewal import Renewal
from serving.router.agent.writer import Writer
from serving.router.telemetry import door, triton
from serving.router.telemetry.board import Board
from serving.router.telemetry.exchange import PERIOD_S, Answerer, Exchange, Peer
from serving.router.telemetry.meter import Meter
from serving.router.telemetry.observed import Observed
from serving.router.telemetry.summary import MOST_LINKS, SiteSummary
from serving.router.view import FleetView, SiteView

_log = logging.getLogger("headend.agent")
_T = TypeVar("_T")

_READ_TIMEOUT_S = 2.0
_READ_ERRORS = (httpx.HTTPError, httpx.StreamError, TimeoutError, ValueError)
PLAN_EVERY_S = 1.0
HEAR_WITHIN_S = 3.0
"""Six summaries of every site that can be heard of."""
RENEW_EVERY_S = 5.0
ISSUE_EVERY_S = 3600.0
ALIVE_WITHIN_S = 10.0
"""An agent whose loop has not come round for so long hangs."""


class Agent:
    """Make it inside the event loop it runs in."""

    def __init__(self, config: AgentConfig, local: httpx.AsyncClient, identity: Identity) -> None:
        self.config = config
        self._local, self._identity = local, identity
        view, fleet = config.view, config.fleet
        site = view.local.name
        facts = {pool_of(key): facts for key, facts in config.facts.items()}
        self._meter = Meter(view.pools, facts)
        self.board = Board(view.fleet, site, fleet.sites, identity, time.monotonic)
        known = {other.name: _peer(config, other) for other in view.others}
        self.exchange = Exchange(view.fleet, site, known, self.board, lambda: identity.client)
        self.answerer = Answerer(view.fleet, site, self.board, relay=fleet.sites[site].relay)
        identity_files = SiteIdentity(Path(view.identity)) if view.identity else None
        self._renewal = Renewal(view.fleet, site, identity_files, known.values(), lambda: identity.client)
        self.issuers = IssuerKeys(view.access, config.envoy)
        self.writer = Writer(view, config.envoy, config.directory)
        self.planner = Planner(fleet, site, self.writer.view.plan)
        self._boot, self._sequence = token_hex(16), 0
        self._started = self._came_round = time.monotonic()
        self._planned_at: float | None = None
        self.plan_seconds = 0.0
        """What the last plan took."""
        self.plans = 0
        self.plan_failures = 0

    @property
    def plan_age_s(self) -> float | None:
        """Since the last plan; None: there was none."""
        return None if self._planned_at is None else time.monotonic() - self._planned_at

    @property
    def is_alive(self) -> bool:
        """Whether its loop comes round."""
        return time.monotonic() - self._came_round < ALIVE_WITHIN_S

    @property
    def is_ready(self) -> bool:
        """Whether it has published something, and goes on doing so."""
        return self._sequence > 0 and self.is_alive

    @property
    def certificate_remaining_s(self) -> float | None:
        """Until the site's certificate expires; None: it has none."""
        return self._identity.remaining_s

    def observed(self) -> dict[str, Observed]:
        """All sites as they are known now."""
        return self.board.observed(self.exchange.links)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for work, period_s in (
                (self._read_door, PERIOD_S),
                (self._read_triton, PERIOD_S),
                (self._publish, PERIOD_S),
                (self._plan, PLAN_EVERY_S),
                (self._identity.renew, RENEW_EVERY_S),
                (self._identity.issue, ISSUE_EVERY_S),
            ):
                tasks.create_task(_every(period_s, work))
            tasks.create_task(self.exchange.run())
            tasks.create_task(self._renewal.run())
            tasks.create_task(self.issuers.run())

    async def _read_door(self) -> None:
        reading = await _within(door.read(self._local, self.config.view))
        self._meter.take_door(time.monotonic(), reading)
        if reading:
            self.writer.look(reading.counters.get("taken", 0.0), reading.counters.get("refused", 0.0))

    async def _read_triton(self) -> None:
        if port := self.config.triton_metrics:
            reading = await _within(triton.read(self._local, self.config.view.ports.triton_http, port))
            self._meter.take_triton(time.monotonic(), reading)

    async def _publish(self) -> None:
        self._sequence += 1
        links = [(site, link) for site, meter in self.exchange.links.items() if (link := meter.link())]
        nearest = sorted(links, key=lambda item: item[1].rtt_ms)[:MOST_LINKS]
        pools = self._meter.pools()
        if self._transition().draining:
            pools = {key: pool.model_copy(update={"ready": False}) for key, pool in pools.items()}
        view = self.config.view
        self.board.publish(
            SiteSummary(
                fleet=view.fleet,
                site=view.local.name,
                boot=self._boot,
                sequence=self._sequence,
                pools=pools,
                links=dict(nearest),
            )
        )
        self._came_round = time.monotonic()

    async def _plan(self) -> None:
        """What is under way at this site is written in any case, be there a plan or not."""
        observed, last = self.observed(), self.writer.view
        own = observed[last.local.name].summary
        view = replace(
            last,
            transition=self._transition(),
            pace=paces(own.pools if own else {}, last.pace),
            rtt_ms=round_trips(observed, last.rtt_ms),
        )
        if self._knows_enough(observed):
            view = await self._planned(view, observed)
        await asyncio.to_thread(self.writer.write, view)

    def _knows_enough(self, observed: Mapping[str, Observed]) -> bool:
        """Not at once after a start: before others have been heard of, a plan would lead away from them."""
        is_new = time.monotonic() - self._started < HEAR_WITHIN_S
        return not (is_new and any(seen.summary is None for seen in observed.values()))

    async def _planned(self, view: FleetView, observed: Mapping[str, Observed]) -> FleetView:
        """`view` with a new plan; where that says nothing of a pool, or fails, the last one stays."""
        begun = time.monotonic()
        try:
            planned = await asyncio.to_thread(self.planner.next, observed)
        except Exception:  # whatever it is, the last plan is better than no agent
            self.plan_failures += 1
            _log.exception("the plan failed, the last one stays")
            return view
        self.plans += 1
        self._planned_at, self.plan_seconds = time.monotonic(), time.monotonic() - begun
        site, now = view.local.name, time.monotonic()
        taken = {other: now - seen.age_s for other, seen in observed.items()}
        rows = {key: row for key, row in view.plan.items() if key[0] in view.pools}
        return replace(
            view,
            plan=rows | planned.of_door(site),
            thresholds=planned.thresholds(site),
            choices=planned.choices(site, self._meter.under_way(taken)),
        )

    def _transition(self) -> transition.Transition:
        try:
            return transition.read(self.config.directory)
        except (HeadendError, OSError) as error:
            _log.error("%s", error)
            return self.writer.view.transition


async def _every(period_s: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` so often; when it takes longer, as often as it can be."""
    while True:
        begun = time.monotonic()
        await work()
        await asyncio.sleep(max(0.0, begun + period_s - time.monotonic()))


async def _within(reading: Awaitable[_T]) -> _T | None:
    """A reading; None when the part does not answer well or in time."""
    with suppress(*_READ_ERRORS):
        async with asyncio.timeout(_READ_TIMEOUT_S):
            return await reading
    return None


def _peer(config: AgentConfig, other: SiteView) -> Peer:
    host = f"[{other.peer.ip}]" if ":" in other.peer.ip else other.peer.ip
    secure = bool(config.view.identity)
    return Peer(
        other.name,
        f"{'https' if secure else 'http'}://{host}:{other.peer.port}",
        relay=config.fleet.sites[other.name].relay,
        sni=server_name(config.view.fleet, other.name) if secure else "",
    )
