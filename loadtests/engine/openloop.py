"""Sends what the schedule says, when it says so, whatever the fleet does. Under gevent only.

One greenlet walks the schedule and never waits for an answer: each request has a greenlet of its own, and a
speaker that nobody else uses meanwhile. Times count from the intended start, so that a request which a
stalled server kept from being sent shows the wait that a user would have had (no coordinated omission).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable

import gevent
from gevent.event import Event
from gevent.pool import Group

from loadtests.arrivals import Start, schedule
from loadtests.campaign import Limits, Work
from loadtests.engine.messages import Job
from loadtests.engine.vitals import Watch
from loadtests.speakers import Answer, Speaker, open_speaker
from loadtests.tally import Record, Tally

YIELD_EVERY_S = 0.001
"""Late starts that are closer together share a turn of the event loop, which costs as much as they do."""
LATE_S = 1.0
"""Starts that are still to be sent so long after the campaign's end are given up."""
PATIENCE_S = 5.0
"""Clients keep their own time limits; so much longer is waited at the end for one that does not."""
STOPPED_S = 1.0
"""After a stop, so long is waited for answers; what is still open then is not counted at all."""


class OpenLoop:
    """One worker's part of a campaign. `observe` is told of every request as it ends."""

    def __init__(self, job: Job, observe: Callable[[Record, Work], None]) -> None:
        self.campaign = job.campaign
        self.tally = Tally(self.campaign)
        self.watch = Watch()
        self.ended_by = "time"
        self.seconds = 0.0
        self.sent = 0
        self.failure: Exception | None = None
        """What ended it, if it should not have."""
        self._job, self._observe = job, observe
        self._free: defaultdict[tuple[str, str], list[Speaker]] = defaultdict(list)
        self._open = Group()
        self._ended = Event()
        self._abandoned = Event()
        self._given_up = False
        self._begin = 0.0

    def prepare(self) -> None:
        """Open the first speakers, so that libraries are loaded before the start. Raises `HeadendError`."""
        for work in self.campaign.workload:
            for door, address in self._job.doors.items():
                self._free[work.name, door].append(open_speaker(work, address))

    @property
    def in_flight(self) -> int:
        """Requests that wait for an answer."""
        return len(self._open)

    def stop(self) -> None:
        """Send no more, and do not wait for answers; `run` returns soon."""
        self.ended_by = "stop"
        self._ended.set()
        self._abandoned.set()

    def run(self, begin: float) -> None:
        """Walk the schedule from `begin` (monotonic clock) on; return when all has been answered."""
        self._begin = begin
        self._ended.wait(max(0.0, begin - time.monotonic()))
        self.watch.start()
        self._walk()
        if self.ended_by == "time":
            self._ended.wait(max(0.0, begin + self.campaign.seconds - time.monotonic()))
        self.seconds = max(0.0, min(self.campaign.seconds, time.monotonic() - begin))
        self.watch.stop()
        self._drain()

    def _walk(self) -> None:
        budget = _Budget(self.campaign.limits, self._job.worker, self._job.workers)
        doors, last = list(self._job.doors), self._begin + self.campaign.seconds + LATE_S
        yielded = 0.0
        for start in schedule(self.campaign, doors, worker=self._job.worker, workers=self._job.workers):
            due = self._begin + start.at
            now = time.monotonic()
            # Even when late, others must come to run, or nothing is ever sent.
            if due > now or now > yielded + YIELD_EVERY_S:
                self._ended.wait(max(0.0, due - now))
                yielded = time.monotonic()
            if self._ended.is_set():
                return
            if reason := budget.refuses(start.work):
                self.ended_by = reason
                return
            self.sent += 1
            if time.monotonic() > last:
                self.watch.too_late()
                self._not_sent(start, "the generator came too late")
            elif len(self._open) >= self.campaign.limits.in_flight:
                self._not_sent(start, f"{len(self._open)} requests were waiting for an answer already")
            else:
                self._open.start(gevent.Greenlet(self._ask, start))

    def _ask(self, start: Start) -> None:
        free, sent = self._free[start.work.name, start.door], self._now()
        try:
            speaker = free.pop() if free else open_speaker(start.work, self._job.doors[start.door])
            sent = self._now()
            self.watch.slipped(sent - start.at)
            answer = speaker.ask()
        except gevent.GreenletExit:
            if not self._given_up:
                return
            answer = Answer(outcome="timeout", detail="no answer, and the client did not give up by itself")
        except Exception as error:
            self.failure = self.failure or error
            return self.stop()
        else:
            free.append(speaker)
        self._count(start, sent, answer)

    def _not_sent(self, start: Start, why: str) -> None:
        # Their turn may have come late as well: a generator that lags must not pass for a full fleet.
        now = self._now()
        self.watch.slipped(now - start.at)
        self._count(start, now, Answer(outcome="not-sent", detail=why))

    def _count(self, start: Start, sent: float, answer: Answer) -> None:
        record = Record(
            work=start.work.name,
            class_=start.work.class_,
            door=start.door,
            site=answer.site,
            intended=start.at,
            sent=sent,
            ended=self._now(),
            outcome=answer.outcome,
            attempts=answer.attempts,
            detail=answer.detail,
            edits=answer.edits,
            characters=answer.characters,
        )
        self.tally.add(record)
        self._observe(record, start.work)

    def _drain(self) -> None:
        """Wait for the answers that are still to come: as long as clients do, or briefly after a stop.

        Then close the speakers; one whose answer never came ends with the process.
        """
        longest = max(work.timeout_s for work in self.campaign.workload)
        all_answered = gevent.spawn(self._open.join)
        gevent.wait([all_answered, self._abandoned], longest + PATIENCE_S, count=1)
        if self._abandoned.is_set():
            self._open.join(STOPPED_S)
        self._given_up = not self._abandoned.is_set()
        self._open.kill()
        all_answered.kill()
        for speakers in self._free.values():
            for speaker in speakers:
                speaker.close()

    def _now(self) -> float:
        return time.monotonic() - self._begin


class _Budget:
    """One worker's part of what the campaign may send and spend; all workers' parts are the whole."""

    def __init__(self, limits: Limits, worker: int, workers: int) -> None:
        self._requests = (limits.requests + workers - 1 - worker) // workers
        # A little more, so that sums of prices which should come to just the limit do.
        self._spend = limits.spend / workers * (1 + 1e-9) if limits.spend else None
        self._price = limits.price_per_1000

    def refuses(self, work: Work) -> str:
        """The limit that one more request would break, or nothing: then it is paid."""
        if self._requests <= 0:
            return "requests"
        price = self._price.get(work.pool, 0.0) / 1000
        if self._spend is not None:
            if price > self._spend:
                return "spend"
            self._spend -= price
        self._requests -= 1
        return ""
