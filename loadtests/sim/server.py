"""A batching server: one pool at one site. And the machine whose cores several of them may share."""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

import numpy as np

from loadtests.sim.times import Service, stream
from loadtests.sim.topology import SimulatedPool

if TYPE_CHECKING:
    from loadtests.sim.request import Request
    from loadtests.sim.simulation import Simulation

Batch = list["Request"]
RECENT = 8
"""Latencies that are remembered for each number of requests in flight."""


class Server:
    """Executions of up to `max_batch` rows by `instances`, one queue in front, so much room and no more."""

    __slots__ = (
        "_delay",
        "_full_s",
        "_kind",
        "_machine",
        "_max_batch",
        "_overhead",
        "_recent",
        "_services",
        "_sim",
        "_usual",
        "_waking",
        "batches",
        "capacity",
        "coming",
        "computed_s",
        "cores",
        "guests",
        "idle",
        "instances",
        "mean_s",
        "own",
        "pool",
        "queue",
        "room",
        "rows",
        "served",
        "site",
        "up",
        "waited_s",
    )

    def __init__(
        self,
        sim: Simulation,
        site: int,
        pool: str,
        declared: SimulatedPool,
        speed: float,
        machine: SharedMachine | None,
        random: np.random.Generator,
    ) -> None:
        self._sim, self.site, self.pool, self._kind = sim, site, pool, declared.kind
        self.instances = self.idle = declared.instances
        self._max_batch = declared.max_batch
        self._delay = declared.queue_delay_ms / 1e3
        self._usual = Service(declared.service, speed, random)
        self._services = {name: Service(each, speed, random) for name, each in declared.inputs.items()}
        self._overhead = stream(declared.overhead, random) if declared.overhead else None
        self._machine, self.cores = machine, declared.cores
        self._waking = False
        self._recent: dict[int, deque[float]] | None = None
        self.room = declared.room
        self.up = True
        self.queue: deque[Request] = deque()
        self.rows = 0
        """Rows in the queue."""
        self.own = self.guests = self.coming = 0
        """Requests here that came through the site's own door, from other doors, and still on their way."""
        self._full_s = self._usual.mean(self._max_batch)
        self.capacity = self.instances * self._max_batch / max(1e-9, self._full_s)
        """Rows a second at most."""
        self.mean_s = self._usual.mean(1)
        """Mean time of the execution of one row alone, seconds."""
        self.batches = self.served = 0
        self.waited_s = self.computed_s = 0.0

    @property
    def in_flight(self) -> int:
        """Requests that are here, waiting ones included."""
        return self.own + self.guests

    def arrive(self, request: Request) -> None:
        """Take a request in, or refuse it."""
        if not self.up:
            self._sim.at(self._sim.now + self._sim.connect_s, request.view.lost, request)
            return
        busy = self.own + self.guests
        if request.is_guest:
            # A model's front door counts what comes from elsewhere by itself; an app counts all there is.
            full = (self.guests if self._kind == "model" else busy) >= self.room
            if full:
                request.view.refused(request)
                return
            self.guests += 1
        elif busy >= self.room:
            request.view.refused(request)
            return
        else:
            self.own += 1
        request.arrived, request.met = self._sim.now, busy
        self.queue.append(request)
        self.rows += request.lane.rows
        if self.idle:
            self._start()

    def _start(self) -> None:
        """Begin executions as long as there are requests and instances."""
        queue, now = self.queue, self._sim.now
        while self.idle and queue:
            if self._delay and self.rows < self._max_batch:
                due = queue[0].arrived + self._delay
                if now < due:
                    if not self._waking:
                        self._waking = True
                        self._sim.at(due, self._wake, None)
                    return
            first = queue.popleft()
            rows, batch = first.lane.rows, [first]
            while queue and rows + queue[0].lane.rows <= self._max_batch:
                rows += queue[0].lane.rows
                batch.append(queue.popleft())
            self.rows -= rows
            self.idle -= 1
            first.started = now
            for request in batch:
                self.waited_s += now - request.arrived
            duration = self._services.get(first.lane.input, self._usual).draw(rows)
            if self._machine:
                self._machine.start(self, batch, duration)
            else:
                heappush(self._sim.heap, (now + duration, next(self._sim.order), self.finish, batch))

    def _wake(self, _: None) -> None:
        self._waking = False
        if self.idle:
            self._start()

    def finish(self, batch: Batch) -> None:
        """An execution has ended."""
        now = self._sim.now
        self.idle += 1
        self.batches += 1
        self.served += len(batch)
        self.computed_s += now - batch[0].started
        for request in batch:
            if request.is_guest:
                self.guests -= 1
            else:
                self.own -= 1
            if self._recent is not None:
                self._remember(request, now)
            request.view.served(request, self._overhead() if self._overhead else 0.0)
        if self.queue:
            self._start()

    def crash(self) -> None:
        """Be down: all that was here is lost."""
        lost = [*self._stop_executions(), *self.queue]
        self.up = False
        self.queue.clear()
        self.idle, self.rows, self.own, self.guests = self.instances, 0, 0, 0
        for request in lost:
            request.view.lost(request)

    def _stop_executions(self) -> Batch:
        if self._machine:
            return self._machine.forget(self)
        heap, finish = self._sim.heap, self.finish
        lost = [request for event in heap if event[2] == finish for request in event[3]]
        # In place, because the simulation goes on with this very list.
        heap[:] = [event for event in heap if event[2] != finish]
        heapify(heap)
        return lost

    def expected_wait(self) -> float:
        """Seconds that one more request would wait on average, knowing all that is here and on its way."""
        if self.idle > self.coming:
            return self._delay
        ahead = 1 + (self.rows + self.coming) // self._max_batch
        return ahead * self._full_s / self.instances

    def typical_latency(self) -> float:
        """Median latency of recent requests that met as many others here as there are now, seconds.

        What a probe of Prequal asks. The first call begins to remember; until there is something it is the
        mean service time.
        """
        if self._recent is None:
            self._recent = {}
        if not self._recent:
            return self.mean_s
        busy = self.own + self.guests
        near = self._recent.get(busy)
        if near is None:
            near = self._recent[min(self._recent, key=lambda met: abs(met - busy))]
        return sorted(near)[len(near) // 2]

    def _remember(self, request: Request, now: float) -> None:
        if self._recent is not None:
            self._recent.setdefault(request.met, deque(maxlen=RECENT)).append(now - request.arrived)


class SharedMachine:
    """Cores shared by the executions of several servers: processor sharing.

    Work is measured on a clock of the machine's own, which goes slower while more is wanted than there is;
    by it, an execution's end is known when it begins.
    """

    def __init__(self, sim: Simulation, cores: float) -> None:
        self._sim, self._cores = sim, cores
        self._wanted = 0.0
        self._clock = self._read_at = 0.0
        self._running: list[tuple[float, int, Server, Batch]] = []
        self._begun = 0
        self._plan = 0

    def start(self, server: Server, batch: Batch, duration: float) -> None:
        """Begin an execution that would take `duration` seconds alone."""
        self._read()
        self._begun += 1
        heappush(self._running, (self._clock + duration, self._begun, server, batch))
        self._wanted += server.cores
        self._schedule()

    def forget(self, server: Server) -> Batch:
        """Stop the server's executions; returns their requests."""
        self._read()
        lost = [one for one in self._running if one[2] is server]
        self._running = [one for one in self._running if one[2] is not server]
        heapify(self._running)
        self._wanted -= server.cores * len(lost)
        self._schedule()
        return [request for one in lost for request in one[3]]

    def _rate(self) -> float:
        return min(1.0, self._cores / self._wanted) if self._running else 1.0

    def _read(self) -> None:
        now = self._sim.now
        self._clock += (now - self._read_at) * self._rate()
        self._read_at = now

    def _schedule(self) -> None:
        """Wait for the next end; what was planned before does not count any more."""
        self._plan += 1
        if self._running:
            due = self._sim.now + (self._running[0][0] - self._clock) / self._rate()
            self._sim.at(max(due, self._sim.now), self._ended, self._plan)

    def _ended(self, plan: int) -> None:
        if plan != self._plan:
            return
        self._read()
        _, _, server, batch = heappop(self._running)
        self._wanted -= server.cores
        self._schedule()
        server.finish(batch)
