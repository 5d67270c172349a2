"""Carries out a campaign's events at a fleet on this machine, through the sites' own commands."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable

from loadtests.campaign import Campaign, Event
from loadtests.results import Happened
from models.errors import HeadendError, UsageError
from serving.fleet import Fleet
from serving.site import lifecycle, waiting
from serving.site.spec import SiteDirectory

_SECOND_THOUGHT_S = 0.2


def check(campaign: Campaign, fleet: Fleet | None) -> None:
    """Raise `UsageError` when an event asks for what is not on this machine."""
    for event in campaign.events:
        if fleet is None:
            raise UsageError(
                f"The campaign has events (`{words(event)}`), which need a fleet on this machine.",
                hint="Give the fleet's file with -f instead of --target, or remove the events.",
            )
        if event.site not in fleet.sites:
            raise UsageError(
                f"The campaign's event `{words(event)}` is about a site that fleet {fleet.fleet} lacks.",
                hint=f"Its sites: {', '.join(fleet.sites)}.",
            )
        state = SiteDirectory(fleet.fleet, event.site).read_state()
        parts = [part.name for part in state.parts] if state and state.supervisor else []
        if not parts:
            raise UsageError(
                f"The campaign's event `{words(event)}` needs site {event.site} on this machine.",
                hint="Start it: headend up",
            )
        if event.part and event.part not in parts:
            raise UsageError(
                f"The campaign's event `{words(event)}`: site {event.site} has no such part.",
                hint=f"Its parts: {', '.join(parts)}.",
            )


def words(event: Event) -> str:
    """`kill hub triton`, `cut edge`."""
    return " ".join(filter(None, (event.do, event.site, event.part)))


class Happenings:
    """Carries out all events, each at its time: a thread a site, so that a site's events keep their order."""

    def __init__(self, campaign: Campaign, fleet: Fleet, begin: float, tell: Callable[[Happened], None]):
        """`begin`: the campaign's start, monotonic clock; `tell` hears of each event once it is over."""
        self._fleet, self._begin, self._tell = fleet, begin, tell
        self._early = threading.Event()
        events: dict[str, list[Event]] = defaultdict(list)
        for event in sorted(campaign.events, key=lambda each: each.at_s):
            events[event.site].append(event)
        self._threads = [threading.Thread(target=self._walk, args=(each,)) for each in events.values()]

    def start(self) -> None:
        """Begin to wait for the events' times."""
        for thread in self._threads:
            thread.start()

    def hurry(self) -> None:
        """The campaign ended early: of what was to come, only what was cut is restored, at once."""
        self._early.set()

    @property
    def over(self) -> bool:
        """Whether nothing is under way and nothing to come."""
        return not any(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        """Wait until it is over."""
        for thread in self._threads:
            thread.join()

    def _walk(self, events: list[Event]) -> None:
        cut = False
        for event in events:
            ended_early = self._early.wait(max(0.0, self._begin + event.at_s - time.monotonic()))
            if ended_early and not (cut and event.do == "restore"):
                continue
            cut = {"cut": True, "restore": False}.get(event.do, cut)
            self._carry_out(event)

    def _carry_out(self, event: Event) -> None:
        at, error = time.monotonic(), None
        try:
            _ACTIONS[event.do](self._fleet, event)
        except HeadendError as found:
            error = found.message
        except OSError as found:
            error = str(found)
        took_s = time.monotonic() - at
        self._tell(Happened(at_s=at - self._begin, do=words(event), took_s=took_s, error=error))


def _kill(fleet: Fleet, event: Event) -> None:
    state = SiteDirectory(fleet.fleet, event.site).read_state()
    pid = next((part.pid for part in state.parts if part.name == event.part), None) if state else None
    if pid is None:
        raise HeadendError(f"{event.part} of {event.site} is not running")
    os.kill(pid, signal.SIGKILL)


def _cut(fleet: Fleet, event: Event) -> None:
    directory = SiteDirectory(fleet.fleet, event.site)
    if not lifecycle.ask_to_end([directory]):
        raise HeadendError(f"{event.site} is not running")
    # Asked twice it kills: a site that is lost does not finish its work first. The pause is there because
    # two signals at once are one.
    time.sleep(_SECOND_THOUGHT_S)
    lifecycle.ask_to_end([directory])
    lifecycle.wait_ended([directory], _silent)


def _restore(fleet: Fleet, event: Event) -> None:
    lifecycle.up(fleet, [event.site], _silent, [])
    waiting.wait_ready([SiteDirectory(fleet.fleet, event.site)], _silent)


def _silent(_: str) -> None:
    """The live view shows the event, not its steps."""


_ACTIONS = {"kill": _kill, "cut": _cut, "restore": _restore}
