"""The links between sites: a process that carries every packet, and delays, paces and drops as declared.

It does in user space what `tc netem` does in the kernel (delay, jitter, loss, rate), because many kernels are
built without netem, among them those of small virtual machines. Each site's namespace has a TUN interface
(https://docs.kernel.org/networking/tuntap.html), and the other end of all of them is here. The kernel removes
the interfaces when this process ends, however it ends.

Run as `python -m loadtests.testbed.wire`: the first line of standard input is the `Plan`, each further one a
`Change`, all JSON; the end of standard input ends it. It says `ready` once the interfaces are there.

Not emulated: corruption, duplication and reordering. Precision: a fraction of a millisecond, as long as the
machine has a core to spare.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from models.schema import Strict

MTU = 1500
INTERFACE = "wan0"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_READS_AT_ONCE = 64


class Way(Strict):
    """One direction of a link."""

    delay_ms: float
    jitter_ms: float
    loss: float
    """1: nothing arrives."""
    mbit_s: float
    queue_ms: float


class End(Strict):
    """Where a site is tied to the wire."""

    namespace: str
    ip: str
    line_mbit_s: float | None = None
    """What the site's own line to all others carries each way; None: as much as its links."""


class Plan(Strict):
    """All there is to carry."""

    ends: dict[str, End]
    ways: dict[str, dict[str, Way]]
    """From site to site."""


class Change(Strict):
    """A direction that is not as it was."""

    source: str
    target: str
    way: Way


@dataclass
class Line:
    """One direction of a site's own line, which all its links share."""

    mbit_s: float
    free_at: float = 0.0
    """When the last byte that waits here will have been sent."""


@dataclass
class Lane:
    """One direction at work. Times are of the monotonic clock."""

    way: Way
    out: int
    """The TUN's file descriptor at the target."""
    lines: Sequence[Line] = ()
    """That it goes over, those of its two sites."""
    free_at: float = 0.0
    """When the last byte that waits here will have been sent."""
    last: float = 0.0
    """When the last packet arrives, so that none overtakes it."""

    def arrival(self, size: int, now: float) -> float | None:
        """When a packet of `size` bytes that is sent now arrives; None: it does not."""
        way = self.way
        if way.loss and random.random() < way.loss:
            return None
        sent = now
        hops: list[tuple[Lane | Line, float]] = [(self, way.mbit_s)]
        hops += [(line, line.mbit_s) for line in self.lines]
        for hop, mbit_s in hops:
            begin = max(sent, hop.free_at)
            if begin - sent > way.queue_ms / 1e3:
                return None
            hop.free_at = sent = begin + size * 8 / (mbit_s * 1e6)
        delay = random.gauss(way.delay_ms, way.jitter_ms) if way.jitter_ms else way.delay_ms
        self.last = max(self.last, sent + max(0.0, delay) / 1e3)
        return self.last


class Wire:
    """Carries packets until standard input ends."""

    def __init__(self, plan: Plan) -> None:
        tuns = {site: _tun(number, end) for number, (site, end) in enumerate(plan.ends.items())}
        addresses = {site: socket.inet_aton(end.ip) for site, end in plan.ends.items()}
        out, into = (
            {site: [Line(end.line_mbit_s)] if end.line_mbit_s else [] for site, end in plan.ends.items()}
            for _ in range(2)
        )
        self._lanes = {
            (source, target): Lane(way, tuns[target], [*out[source], *into[target]])
            for source, ways in plan.ways.items()
            for target, way in ways.items()
        }
        self._by_address = {
            tuns[source]: {
                addresses[target]: lane for (a, target), lane in self._lanes.items() if a == source
            }
            for source in plan.ends
        }
        self._due: list[tuple[float, int, int, bytes]] = []
        self._number = itertools.count()

    def run(self) -> None:
        """Carry."""
        control = sys.stdin.fileno()
        os.set_blocking(control, False)
        text = b""
        while True:
            wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else None
            readable, _, _ = select.select([control, *self._by_address], [], [], wait)
            if control in readable:
                readable.remove(control)
                if not (read := os.read(control, 65_536)):
                    return
                *lines, text = (text + read).split(b"\n")
                for line in lines:
                    self._change(Change.model_validate_json(line))
            for tun in readable:
                self._take(tun)
            self._deliver()

    def _change(self, change: Change) -> None:
        self._lanes[change.source, change.target].way = change.way

    def _take(self, tun: int) -> None:
        lanes = self._by_address[tun]
        for _ in range(_READS_AT_ONCE):
            try:
                packet = os.read(tun, MTU + 100)
            except BlockingIOError:
                return
            except OSError:  # the interface is down
                return
            lane = lanes.get(packet[16:20])  # IPv4's destination; nothing else has a lane
            if lane is None:
                continue
            at = lane.arrival(len(packet), time.monotonic())
            if at is not None:
                heapq.heappush(self._due, (at, next(self._number), lane.out, packet))

    def _deliver(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            _, _, out, packet = heapq.heappop(self._due)
            try:
                os.write(out, packet)
            except OSError:  # the interface at the other end is down: the packet is lost
                continue


def _tun(number: int, end: End) -> int:
    """Make the interface and move it into the site's namespace; the file descriptor carries on."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    name = f"hbwire{number}"
    fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN | _IFF_NO_PI))
    for command in (
        f"ip link set {name} netns {end.namespace} name {INTERFACE}",
        f"ip -n {end.namespace} address add {end.ip}/24 dev {INTERFACE}",
        f"ip -n {end.namespace} link set {INTERFACE} mtu {MTU} up",
    ):
        subprocess.run(command.split(), check=True)
    return tun


def main() -> None:
    """See the module."""
    # Late packets would look like a slow network: this goes before all that it carries for.
    os.setpriority(os.PRIO_PROCESS, 0, -20)
    wire = Wire(Plan.model_validate_json(_first_line()))
    print("ready", flush=True)
    wire.run()


def _first_line() -> bytes:
    """Unbuffered, so that what follows is still to be read."""
    line = bytearray()
    while not line.endswith(b"\n"):
        if not (byte := os.read(0, 1)):
            sys.exit("no plan on standard input")
        line += byte
    return bytes(line)


if __name__ == "__main__":
    main()
