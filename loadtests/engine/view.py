"""Shows a run while it goes on: a live table on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadtests.arrivals import mean_rate
from loadtests.campaign import Campaign
from loadtests.engine.health import delay_limit_ms
from loadtests.histogram import Histogram
from loadtests.results import Happened

REFRESH_S = 0.5
_LINE_EVERY_S = 5.0
_FIRST_LINE_S = 1.0
_WINDOW_S = 3.0
"""Rates are means over so long."""


@dataclass
class Seen:
    """What is known of the run so far, from the workers' messages."""

    campaign: Campaign
    begin: float | None = None
    """Monotonic clock; None before it has started."""
    note: str = "starting the load generator …"
    """What goes on besides; empty while load is sent."""
    sent: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    sites: Counter[str] = field(default_factory=Counter)
    classes: defaultdict[str, Histogram] = field(default_factory=lambda: defaultdict(Histogram))
    events: list[Happened] = field(default_factory=list)
    in_flight: dict[int, int] = field(default_factory=dict)
    delay_ms: float = 0.0
    """Largest lag or slip that was told last."""
    _recent: deque[tuple[float, int, int, int]] = field(default_factory=deque)

    def hear(self, message: dict[str, Any]) -> None:
        """Take in a worker's `Progress`."""
        self.sent += message["sent"]
        self.outcomes.update(message["outcomes"])
        self.sites.update(message["sites"])
        for class_, times in message["response_us"].items():
            for time_us in times:
                self.classes[class_].record(time_us / 1e6)
        self.in_flight[message["worker"]] = message["in_flight"]
        self.delay_ms = max(message["lag_ms"], message["slip_ms"])
        now = time.monotonic()
        self._recent.append((now, self.sent, self.right, self.wrong))
        while len(self._recent) > 2 and now - self._recent[0][0] > _WINDOW_S:
            self._recent.popleft()

    @property
    def right(self) -> int:
        """Requests answered rightly."""
        return self.outcomes["ok"]

    @property
    def wrong(self) -> int:
        """Requests that failed."""
        return self.outcomes.total() - self.right

    @property
    def at_s(self) -> float:
        """Seconds since the start; negative shortly before."""
        return time.monotonic() - self.begin if self.begin is not None else 0.0

    def rates(self) -> tuple[float, float, float]:
        """Sent, answered rightly and failed, a second, of late."""
        if len(self._recent) < 2:
            return 0.0, 0.0, 0.0
        (begin, *old), (end, *new) = self._recent[0], self._recent[-1]
        sent, right, wrong = ((b - a) / max(1e-9, end - begin) for a, b in zip(old, new, strict=True))
        return sent, right, wrong


class View(Protocol):
    """Shows what was `Seen`, until it is closed."""

    def show(self, seen: Seen) -> None:
        """Called twice a second, and more often."""
        ...

    def close(self) -> None:
        """Leave the last state on the screen."""
        ...


class Silent:
    """Shows nothing."""

    def show(self, seen: Seen) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Lines:
    """A line every five seconds, for logs."""

    def __init__(self, console: Console) -> None:
        self._console, self._next = console, 0.0

    def show(self, seen: Seen) -> None:
        """Print a line when it is time for one."""
        if seen.at_s >= _FIRST_LINE_S and time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_EVERY_S
            self._console.print(line(seen), markup=False)

    def close(self) -> None:
        """The last line was printed."""


def opened(console: Console, wanted: bool) -> View:
    """The view that fits where it is shown."""
    if not wanted:
        return Silent()
    return Screen(console) if console.is_terminal else Lines(console)


class Screen:
    """A table that changes in place, for terminals."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False)
        self._live.start()
        self._next = 0.0
        self._last: Seen | None = None

    def show(self, seen: Seen) -> None:
        """Draw it anew, twice a second at most."""
        self._last = seen
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + REFRESH_S
            self._live.update(picture(seen), refresh=True)

    def close(self) -> None:
        """Leave the last picture standing."""
        if self._last is not None:
            self._live.update(picture(self._last))
        self._live.stop()


def line(seen: Seen) -> str:
    """The run in one line."""
    sent, right, wrong = seen.rates()
    parts = [
        f"{max(0, seen.at_s):.0f}/{seen.campaign.seconds:g} s",
        f"sent {seen.sent} ({sent:.1f}/s)",
        f"right {seen.right} ({right:.1f}/s)",
        f"failed {seen.wrong} ({wrong:.1f}/s)",
        *(
            f"{class_} p50 {times.percentile_ms(50):.0f} p99 {times.percentile_ms(99):.0f} ms"
            for class_, times in sorted(seen.classes.items())
        ),
        " ".join(f"{site or 'unknown'}:{count}" for site, count in seen.sites.most_common()),
        f"generator late by {seen.delay_ms:.0f} ms",
        *(f"{event.do} at {event.at_s:.0f} s" for event in seen.events),
    ]
    return " · ".join(filter(None, parts))


def picture(seen: Seen) -> RenderableType:
    """The run as a screen."""
    campaign = seen.campaign
    head = Text.assemble((campaign.campaign, "bold"), "  ", (campaign.title, "dim"))
    if seen.begin is None:
        return Group(head, Text(seen.note))
    return Group(head, _clock(seen), Text(), _rates(seen), Text(), _latencies(seen), Text(), *_below(seen))


def _clock(seen: Seen) -> RenderableType:
    at, lasts = max(0.0, seen.at_s), seen.campaign.seconds
    grid = Table.grid(padding=(0, 1))
    left = lasts - at
    if seen.note:
        words = seen.note
    elif left > 0:
        words = f"{_minutes(at)} of {_minutes(lasts)}, {_minutes(left)} left"
        words += " (warming up)" if at < seen.campaign.warm_up_s else ""
    else:
        words = f"all sent; waiting for {sum(seen.in_flight.values())} answers"
    grid.add_row(ProgressBar(total=lasts, completed=min(at, lasts), width=40), Text(words))
    return grid


def _rates(seen: Seen) -> RenderableType:
    table = Table("", "now /s", "so far", box=None, pad_edge=False, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    sent, right, wrong = seen.rates()
    at = min(max(0.0, seen.at_s), seen.campaign.seconds * 0.999)
    table.add_row("declared", f"{mean_rate(seen.campaign, at):.1f}", "")
    table.add_row("sent", f"{sent:.1f}", f"{seen.sent:,}")
    table.add_row("answered rightly", f"{right:.1f}", f"{seen.right:,}")
    table.add_row("failed", f"{wrong:.1f}", f"{seen.wrong:,}", style="red" if seen.wrong else "")
    table.add_row("waiting", "", f"{sum(seen.in_flight.values()):,}")
    return table


def _latencies(seen: Seen) -> RenderableType:
    table = Table("class", "p50", "p99", "objective p99", box=None, pad_edge=False, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    for class_, times in sorted(seen.classes.items()):
        objective = seen.campaign.objectives.classes.get(class_)  # type: ignore[call-overload]
        limit = objective.p99_ms if objective else None
        late = limit is not None and times.percentile_ms(99) > limit
        table.add_row(
            class_,
            f"{times.percentile_ms(50):,.0f} ms",
            Text(f"{times.percentile_ms(99):,.0f} ms", style="red" if late else ""),
            f"{limit:,.0f} ms" if limit else "",
        )
    return table


def _below(seen: Seen) -> list[RenderableType]:
    lines: list[RenderableType] = []
    if seen.sites:
        total = seen.sites.total()
        shares = (f"{site or 'unknown'} {count / total:.0%}" for site, count in seen.sites.most_common())
        lines.append(Text(f"answered by {', '.join(shares)}"))
    kinds = [(kind, count) for kind, count in seen.outcomes.most_common() if kind != "ok"]
    if kinds:
        lines.append(Text("failed: " + ", ".join(f"{kind} {count:,}" for kind, count in kinds), style="red"))
    for event in seen.events:
        words = f"{event.at_s:.0f} s: {event.do} (took {event.took_s:.1f} s)"
        lines.append(Text(f"{words}: {event.error}" if event.error else words, style="magenta"))
    limit = delay_limit_ms(seen.campaign)
    lines.append(
        Text(f"generator late by {seen.delay_ms:.0f} ms", style="yellow" if seen.delay_ms > limit else "dim")
    )
    return lines


def _minutes(seconds: float) -> str:
    whole = round(seconds)
    return (
        f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
        if whole >= 3600
        else f"{whole // 60}:{whole % 60:02}"
    )
