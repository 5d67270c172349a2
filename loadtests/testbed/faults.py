"""Makes things go wrong at a testbed, and puts them right again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress

from loadtests.testbed import network, wire
from loadtests.testbed.bed import Testbed
from loadtests.testbed.scenario import Fault
from models.errors import HeadendError
from serving.site import keeper
from serving.site.spec import PartState

LOSS = 0.2
"""Share of the packets that `loss` takes."""
Undo = Callable[[], None]


def begin(bed: Testbed, fault: Fault) -> Undo:
    """Do it; the result puts it right. Raises `HeadendError` when the part does not run."""
    with ExitStack() as held:
        for site in filter(fault.strikes, bed.scenario.sites):
            held.callback(_begin(bed, fault, site))
        return held.pop_all().close


def _begin(bed: Testbed, fault: Fault, site: str) -> Undo:
    match fault.do:
        case "sigkill":
            _kill(bed, site, fault.part or "")
            return lambda: None
        case "sigstop":
            return stop(bed, site, fault.part or "")
        case "link-down":
            network.set_interface(site, wire.INTERFACE, "down")
            return lambda: network.set_interface(site, wire.INTERFACE, "up")
        case "black-hole":
            return _lose(bed, site, 1.0, 1.0)
        case "loss":
            return _lose(bed, site, LOSS, LOSS)
        case "one-way":
            return _lose(bed, site, 1.0, 0.0)


def stop(bed: Testbed, site: str, part: str) -> Undo:
    """SIGSTOP to all processes of a part; the result lets them go on."""
    is_control = part == "control"
    pids = _processes(bed, site, "agent" if is_control else part)
    if is_control:
        # First of all: it would restart an agent that hangs.
        _signal({bed.state(site).supervisor}, signal.SIGSTOP)
        pids |= {bed.state(site).supervisor}
    _signal(pids, signal.SIGSTOP)
    return lambda: _signal(pids, signal.SIGCONT)


def _kill(bed: Testbed, site: str, part: str) -> None:
    pid = _part(bed, site, part).pid
    _signal({pid} if pid else set(), signal.SIGKILL)


def _processes(bed: Testbed, site: str, part: str) -> set[int]:
    keeping = _part(bed, site, part).keeper
    return keeper.descendants(keeping) if keeping else set()


def _lose(bed: Testbed, site: str, sent: float, received: float) -> Undo:
    """Lose a share of what the site sends, and of what it is sent."""
    others = [name for name in bed.scenario.sites if name != site]

    def undo() -> None:
        for other in others:
            bed.set_way(site, other)
            bed.set_way(other, site)

    for other in others:
        declared = bed.scenario.between(site, other).loss
        bed.set_way(site, other, loss=max(sent, declared))
        bed.set_way(other, site, loss=max(received, declared))
    return undo


def _part(bed: Testbed, site: str, name: str) -> PartState:
    parts = {part.name: part for part in bed.state(site).parts}
    if name not in parts or parts[name].pid is None:
        raise HeadendError(f"{name} of {site} is not running.", hint=f"Running: {', '.join(parts)}.")
    return parts[name]


def _signal(pids: set[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
