"""The generator's processes: locust, which carries users, distribution and the web page.

Started as `python -m gevent.monkey --module loadtests.engine.generator FD`: everything is patched before
anything is imported. Each worker walks its part of the campaign's schedule; locust's own statistics are fed
with response times from the intended start, so that its page shows the truth too.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gevent
from gevent.event import Event
from gevent.fileobject import FileObject
from locust import User, task
from locust.env import Environment
from locust.exception import StopUser
from locust.runners import MasterRunner, Runner
from locust.stats import stats_history

from loadtests.campaign import Work
from loadtests.engine import messages
from loadtests.engine.messages import Done, Job, Progress
from loadtests.engine.openloop import OpenLoop
from loadtests.tally import Record
from models.errors import HeadendError

LEAD_S = 1.0
"""From the agreement on a start to the start: every worker has its user by then."""
PRIORITY = -10
"""Niceness of a generator's process, where the system allows it (root)."""
Tell = Callable[[Any], None]
"""Says a message to the parent, by whatever way."""


class _Worker:
    """One worker's open loop, and what it tells of it."""

    def __init__(self, job: Job, environment: Environment) -> None:
        self.job, self._environment = job, environment
        self.loop = OpenLoop(job, self._observe)
        self.ended = Event()
        self._begun = False
        self._news = Progress(worker=job.worker)
        self._told = 0
        environment.user_classes = [_user(self)]

    def prepare(self) -> None:
        """Load libraries and open speakers; then keep the collector from walking over all that again."""
        if any(work.client == "triton-grpc" for work in self.job.campaign.workload):
            from grpc.experimental.gevent import init_gevent

            init_gevent()
            # Each call that waits holds a thread of gevent's, which has ten: the answer of an eleventh would
            # wait until one of ten calls before it has ended.
            gevent.get_hub().threadpool.maxsize = self.job.campaign.limits.in_flight
        self.loop.prepare()
        gc.collect()
        gc.freeze()

    def begin(self, at: float) -> None:
        """Start the campaign at `at` (monotonic clock), once.

        Not in the greenlet of locust's user: its coming is a message that may be late, and load may not be.
        """
        if not self._begun:
            self._begun = True
            gevent.spawn(self._run, at)

    def _run(self, at: float) -> None:
        try:
            self.loop.run(at)
        except Exception as error:
            self.loop.failure = error
        finally:
            self.ended.set()

    def stop(self) -> None:
        """End early."""
        self.loop.stop()
        self.begin(time.monotonic())

    def report(self, tell: Tell) -> None:
        """Tell progress until all is answered, then everything. Raises what ended the loop."""
        while not self.ended.wait(messages.PROGRESS_EVERY_S):
            tell(self._progress())
        if self.loop.failure is not None:
            raise self.loop.failure
        tell(self._progress())
        loop = self.loop
        tell(Done(self.job.worker, loop.ended_by, loop.seconds, loop.tally.dump(), loop.watch.dump()))

    def _progress(self) -> Progress:
        news, self._news = self._news, Progress(worker=self.job.worker)
        news.sent, self._told = self.loop.sent - self._told, self.loop.sent
        news.in_flight = self.loop.in_flight
        news.lag_ms, news.slip_ms = self.loop.watch.worst()
        return news

    def _observe(self, record: Record, work: Work) -> None:
        news = self._news
        news.outcomes[record.outcome] = news.outcomes.get(record.outcome, 0) + 1
        if record.outcome == "ok":
            news.sites[record.site] = news.sites.get(record.site, 0) + 1
            news.response_us.setdefault(record.class_, []).append(round(record.response * 1e6))
        self._environment.events.request.fire(  # type: ignore[no-untyped-call]
            request_type=work.client,
            name=f"{record.work} at {record.door}",
            response_time=record.response * 1e3,
            response_length=0,
            exception=None if record.outcome == "ok" else record.outcome,
            context={"class": record.class_, "site": record.site, "outcome": record.outcome},
        )


def _user(worker: _Worker | None) -> type[User]:
    """Stands for the campaign on locust's page; the master's own never comes to life."""

    class Campaign(User):
        @task
        def under_way(self) -> None:
            try:
                if worker is not None:
                    worker.ended.wait()
            except gevent.GreenletExit:  # the page's stop button
                if worker is not None:
                    worker.stop()
                raise
            raise StopUser

    return Campaign


def _alone(job: Job, tell: Tell, commands: FileObject) -> None:
    environment = Environment()
    worker = _Worker(job, environment)
    runner = environment.create_local_runner()
    worker.prepare()
    if job.web:
        tell({"kind": "web", "url": _web_page(environment, runner)})
    gevent.spawn(_obey, commands, worker.stop)
    begin = time.monotonic() + LEAD_S
    tell({"kind": "started", "at": begin})
    worker.begin(begin)
    runner.start(1, spawn_rate=1)
    worker.report(tell)


def _worker(job: Job, tell: Tell, commands: FileObject) -> None:
    environment = Environment()
    worker = _Worker(job, environment)
    worker.prepare()  # before the master knows of it and waits for its heartbeats
    runner = environment.create_worker_runner("127.0.0.1", job.master_port)
    runner.register_message("begin", lambda msg, **_: worker.begin(msg.data["at"]))
    runner.register_message("halt", lambda **_: worker.stop())
    runner.send_message("ready", {"worker": job.worker})
    worker.report(lambda message: runner.send_message("say", {"line": messages.encode(message)}))
    runner.greenlet.join()  # until the master says quit: all that was said is with it then


def _master(job: Job, tell: Tell, commands: FileObject) -> None:
    environment = Environment()
    environment.user_classes = [_user(None)]
    runner = environment.create_master_runner("127.0.0.1", 0)
    crew = _Crew(job.workers, runner, tell)
    tell({"kind": "listening", "port": runner.server.port})
    gevent.spawn(_obey, commands, crew.halt, crew.lost)
    crew.all_ready.wait()
    if job.web:
        tell({"kind": "web", "url": _web_page(environment, runner)})
    begin = time.monotonic() + LEAD_S
    tell({"kind": "started", "at": begin})
    runner.send_message("begin", {"at": begin})
    runner.start(job.workers, spawn_rate=job.workers)
    crew.all_done.wait()
    runner.quit()


class _Crew:
    """The workers as their master sees them."""

    def __init__(self, workers: int, runner: MasterRunner, tell: Tell) -> None:
        self.all_ready, self.all_done = Event(), Event()
        self._ready: set[int] = set()
        self._done: set[int] = set()
        self._workers, self._runner, self._tell = workers, runner, tell
        runner.register_message("ready", self._is_ready)
        runner.register_message("say", self._says)

    def halt(self) -> None:
        """End all early."""
        self._runner.send_message("halt")

    def lost(self, worker: int) -> None:
        """One died: the others end, and nothing is waited for."""
        self._ready.add(worker)
        self._done.add(worker)
        self._look()
        self.halt()

    def _is_ready(self, msg: Any, **_: Any) -> None:
        self._ready.add(msg.data["worker"])
        self._look()

    def _says(self, msg: Any, **_: Any) -> None:
        message = messages.decode(msg.data["line"])
        self._tell(message)
        if message["kind"] == "done":
            self._done.add(message["worker"])
            self._look()

    def _look(self) -> None:
        if len(self._ready) == self._workers:
            self.all_ready.set()
        if len(self._done) == self._workers:
            self.all_done.set()


def _obey(commands: FileObject, stop: Callable[[], None], lost: Callable[[int], None] | None = None) -> None:
    for line in commands:
        word, _, number = line.partition(" ")
        if word.strip() == messages.LOST and lost:
            lost(int(number))
        else:
            stop()


def _web_page(environment: Environment, runner: Runner) -> str:
    """Open locust's page on a free port of this machine alone; returns its address."""
    page = environment.create_web_ui("127.0.0.1", 0)
    gevent.spawn(stats_history, runner)
    while page.server is None or not page.server.started:
        gevent.sleep(0.01)
    return f"http://127.0.0.1:{page.server.server_port}/"


def main() -> None:
    """Do the job on standard input."""
    commands = FileObject(sys.stdin.fileno(), "r", close=False)
    say = os.fdopen(int(sys.argv[1]), "w")

    def tell(message: Any) -> None:
        say.write(messages.encode(message))
        say.flush()

    # A fleet on the same machine may fill it; who measures must not wait behind who is measured.
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    job = Job(**messages.decode(commands.readline()))
    try:
        {"alone": _alone, "master": _master, "worker": _worker}[job.role](job, tell, commands)
    except HeadendError as error:
        tell({"kind": "failed", "message": error.message, "hint": error.hint, "code": error.exit_code})
        sys.exit(1)


if __name__ == "__main__":
    main()
