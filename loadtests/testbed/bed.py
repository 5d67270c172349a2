"""The testbed itself: builds the scenario's fleet, brings its sites up, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml
from cryptography.hazmat.primitives import serialization

from loadtests.testbed import network, stub
from loadtests.testbed.scenario import Link, Scenario
from loadtests.testbed.wire import Change, End, Plan, Way
from models.errors import HeadendError
from models.files import locked, write_atomic
from models.home import home
from models.signing import load_signer
from serving.fleet import Fleet
from serving.site import keeper, lifecycle, logs
from serving.site.machine import State
from serving.site.spec import SiteDirectory, SiteState

FLEET = "testbed"
_LOCK = Path("/run/lock/headend-testbed")
"""Namespaces have no owner but the machine: one testbed at a time."""
_START_LIMIT_S = 180.0
_END_LIMIT_S = 40.0
_LOOK_EVERY_S = 0.2
Tell = Callable[[str], None]


class Testbed:
    """A running scenario's sites; a context manager, used by one thread.

    Raises `HeadendError` on entry when this machine cannot have one, or a site does not become ready.
    """

    def __init__(self, scenario: Scenario, tell: Tell) -> None:
        self.scenario = scenario
        self._tell, self._stack = tell, ExitStack()
        self._root = root()
        self._homes = {site: self._root / "sites" / site for site in scenario.sites}
        self._wire: subprocess.Popen[bytes] | None = None
        self.directories: dict[str, SiteDirectory] = {}
        self.fleet: Fleet
        """What the sites were declared to be."""
        self.doors = {site: f"{network.address(number)}:8000" for number, site in enumerate(scenario.sites)}
        """Front doors, as this machine reaches them: `host:port` by site."""

    def __enter__(self) -> Self:
        refuse()
        with self._stack as stack:
            stack.enter_context(locked(_LOCK, busy="Another testbed runs on this machine."))
            down()
            stack.callback(down)
            stack.enter_context(at_home(self._root / "workshop"))
            self._prepare()
            network.create(self.scenario.sites)
            self._wire = self._start_wire(stack)
            self._start_sites(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def state(self, site: str) -> SiteState:
        """The site as its supervisor sees it."""
        state = self.directories[site].read_state()
        if state is None:
            raise HeadendError(f"Site {site} was never started.")
        return state

    def set_way(self, source: str, target: str, **changes: float) -> None:
        """Change one direction of a link; what is not named is as declared."""
        way = _way(self.scenario.between(source, target)).model_copy(update=changes)
        if self._wire is None or self._wire.stdin is None:
            raise HeadendError("The testbed has no links yet.")
        self._wire.stdin.write(
            Change(source=source, target=target, way=way).model_dump_json().encode() + b"\n"
        )
        self._wire.stdin.flush()

    def _prepare(self) -> None:
        self._tell("building models")
        self._build()
        file = self._root / "fleet.yaml"
        write_atomic(file, yaml.safe_dump(self._fleet()).encode())
        self.fleet = fleet = Fleet.load(file)
        public = (
            load_signer()
            .key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        for site, own in self._homes.items():
            write_atomic(own / "keys" / "trusted" / "testbed.pub", public)
            with at_home(own):
                self.directories[site] = SiteDirectory(fleet.fleet, site)
                self._place(site)

    def _build(self) -> None:
        """Fill the store."""
        stub.build_models(self.scenario)

    def _place(self, site: str) -> None:
        """Do what has to be done at a site before it is started; `$HEADEND_HOME` is the site's."""
        stub.place(self.scenario, self.fleet, site, self.directories[site].path / "triton" / "models")

    def _fleet(self) -> dict[str, object]:
        return {
            "fleet": FLEET,
            "store": str(home() / "store"),
            # Its addresses are in network namespaces that nobody else reaches.
            "access": "open",
            "models": {name: {} for name in self.scenario.models},
            "sites": {
                site: {
                    "front_door": self.doors[site],
                    "peer": f"{network.address(number)}:8001",
                    # As many copies: each uses one thread.
                    "threads": size.copies,
                    "uplink": {"mbit_s": size.uplink_mbit_s} if size.uplink_mbit_s else None,
                }
                for number, (site, size) in enumerate(self.scenario.sites.items())
            },
        }

    def _start_wire(self, stack: ExitStack) -> subprocess.Popen[bytes]:
        ends = {
            site: End(
                namespace=network.namespace(site),
                ip=network.address(number),
                line_mbit_s=size.uplink_mbit_s,
            )
            for number, (site, size) in enumerate(self.scenario.sites.items())
        }
        ways = {a: {b: _way(self.scenario.between(a, b)) for b in ends if b != a} for a in ends}
        wire = stack.enter_context(
            child([sys.executable, "-m", "loadtests.testbed.wire"], self._root / "wire.log", {}, pipes=True)
        )
        if wire.stdin is None or wire.stdout is None:
            raise AssertionError("a child with pipes has them")
        wire.stdin.write(Plan(ends=ends, ways=ways).model_dump_json().encode() + b"\n")
        wire.stdin.flush()
        if wire.stdout.readline() != b"ready\n":
            raise HeadendError("The links cannot be made.", hint=_tail(self._root / "wire.log"))
        return wire

    def _start_sites(self, stack: ExitStack) -> None:
        program = [str(Path(sys.executable).with_name("headend")), "up", "-f", str(self._root / "fleet.yaml")]
        running = {
            site: stack.enter_context(
                child(
                    network.inside(site, [*program, "--site", site]),
                    self._root / f"{site}.log",
                    {"HEADEND_HOME": str(own)},
                )
            )
            for site, own in self._homes.items()
        }
        stack.callback(_ask_to_end, list(running.values()))
        deadline = time.monotonic() + _START_LIMIT_S
        for site, process in running.items():
            self._tell(f"waiting for {site}")
            while not self._is_ready(site):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise HeadendError(
                        f"Site {site} did not become ready.", hint=_tail(self._root / f"{site}.log")
                    )
                time.sleep(_LOOK_EVERY_S)

    def _is_ready(self, site: str) -> bool:
        state = self.directories[site].read_state()
        return state is not None and state.supervisor != 0 and state.state is State.READY


def root() -> Path:
    """Where testbeds keep everything."""
    return home() / "testbed"


def refuse() -> None:
    """Raise `HeadendError` when no testbed can be built on this machine, with the reason."""
    if reason := network.obstacle():
        raise HeadendError(
            f"No testbed here: {reason}.",
            hint="Run it as root on a Linux machine with iproute2, network namespaces and /dev/net/tun.",
        )


def down() -> list[str]:
    """End whatever a testbed left, however it ended; returns the names of the removed namespaces."""
    removed = network.remove_all()
    for own in sorted((root() / "sites").glob("*")):
        with at_home(own):
            for path in sorted((own / "fleets").glob("*/*/spec.json")):
                lifecycle.wait_ended(
                    [SiteDirectory(path.parent.parent.name, path.parent.name)], lambda _: None
                )
    shutil.rmtree(root() / "sites", ignore_errors=True)
    return removed


@contextmanager
def at_home(path: Path) -> Iterator[None]:
    """`$HEADEND_HOME` is `path` meanwhile, for this process and those that it starts."""
    before = os.environ.get("HEADEND_HOME")
    os.environ["HEADEND_HOME"] = str(path)
    try:
        yield
    finally:
        if before is None:
            del os.environ["HEADEND_HOME"]
        else:
            os.environ["HEADEND_HOME"] = before


@contextmanager
def child(
    command: list[str], log: Path, added: Mapping[str, str], *, pipes: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with this one, however this one ends."""
    me = os.getpid()
    pipe = subprocess.PIPE if pipes else subprocess.DEVNULL
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=pipe,
            stdout=pipe if pipes else file,
            stderr=file,
            env={**os.environ, **added},
            start_new_session=True,
            preexec_fn=lambda: keeper.die_with_parent(me, signal.SIGTERM),
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_END_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()


def _ask_to_end(processes: list[subprocess.Popen[bytes]]) -> None:
    """All at once: each takes seconds."""
    for process in processes:
        process.terminate()


def _way(link: Link) -> Way:
    return Way(
        delay_ms=link.rtt_ms / 2,
        jitter_ms=link.jitter_ms,
        loss=link.loss,
        mbit_s=link.mbit_s,
        queue_ms=link.queue_ms,
    )


def _tail(log: Path) -> str:
    return "\n".join(logs.tail(log, 10))
