"""Waits for sites to become ready, and tells what happens to them meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

from models.errors import HeadendError
from serving.site import logs
from serving.site.machine import State
from serving.site.spec import PartState, SiteDirectory, SiteState

Progress = Callable[[str], None]
"""Told, in a sentence, what happens."""

_LOOK_EVERY_S = 0.2
_STUCK_S = 20.0
"""A front door is ready some probes after what it leads to."""
_CALM = {State.STARTING, State.READY, State.STOPPED}
_COMING = {State.STARTING, State.RESTARTING}


def wait_ready(
    directories: Iterable[SiteDirectory], tell: Progress, parts: Collection[str] | None = None
) -> None:
    """Wait until every part is ready, or those named in `parts`.

    Raises `HeadendError` with a part's last log lines when it was given up or is not ready within its time.
    """
    waiting = list(directories)
    news = _News(tell)
    stuck_since: dict[str, float] = {}
    while waiting:
        for directory in list(waiting):
            state = living(directory)
            news.of(state)
            if parts is not None:
                state = state.model_copy(
                    update={"parts": [part for part in state.parts if part.name in parts]}
                )
            if (part := _stuck(state)) is None:
                stuck_since.pop(directory.site, None)
            else:
                since = stuck_since.setdefault(directory.site, time.monotonic())
                if part.state is State.FAILED or time.monotonic() - since > _STUCK_S:
                    raise _not_ready(directory, part)
            if state.parts and state.state is State.READY:
                waiting.remove(directory)
        time.sleep(_LOOK_EVERY_S)


def watch(directories: Iterable[SiteDirectory], tell: Progress) -> None:
    """Tell what happens to sites until all of them have ended."""
    news = _News(tell)
    while states := [
        state for directory in directories if (state := directory.read_state()) and state.supervisor
    ]:
        for state in states:
            news.of(state)
        time.sleep(_LOOK_EVERY_S)


def _stuck(state: SiteState) -> PartState | None:
    """The part that keeps the site from becoming ready, unless it waits for one that is still coming."""
    found = {part.state: part for part in state.parts}
    if State.FAILED in found:
        return found[State.FAILED]
    return None if _COMING & found.keys() else found.get(State.UNREADY)


class _News:
    """Tells changes of parts."""

    def __init__(self, tell: Progress) -> None:
        self._tell = tell
        self._known: dict[tuple[str, str], State] = {}
        self._began = time.monotonic()

    def of(self, state: SiteState) -> None:
        for part in state.parts:
            key = (state.site, part.name)
            if self._known.get(key, State.STOPPED) is not part.state:
                self._known[key] = part.state
                why = f": {part.error}" if part.error and part.state not in _CALM else ""
                seconds = time.monotonic() - self._began
                self._tell(f"{seconds:6.1f} s  {state.site}: {part.name} is {part.state}{why}")


def living(directory: SiteDirectory) -> SiteState:
    """The site's state. Raises `HeadendError` when its supervisor has ended."""
    state = directory.read_state()
    if state is None or not state.supervisor:
        raise HeadendError(
            f"The supervisor of site {directory.site} ended.",
            hint="\n".join(logs.tail(directory.log("supervisor"), 10)),
        )
    return state


def _not_ready(directory: SiteDirectory, part: PartState) -> HeadendError:
    lines = "\n".join(f"  {line}" for line in logs.tail(directory.log(part.name), 15))
    return HeadendError(
        f"{part.name} of site {directory.site} is {part.state}: {part.error}",
        hint=f"Its log ends:\n{lines}\nAll of it: headend logs {directory.site} {part.name} -n 1000",
    )
