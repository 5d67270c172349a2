"""Plans and states as a person reads them."""

from __future__ import annotations

import time

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serving.site.machine import State
from serving.site.plan import FleetPlan, SitePlan
from serving.site.rollout.summary import RolloutStatus
from serving.site.status import FleetStatus, PartStatus, SiteStatus

_COLOUR = {
    State.READY: "green",
    State.STARTING: "yellow",
    State.UNREADY: "yellow",
    State.RESTARTING: "yellow",
    State.FAILED: "red",
    State.STOPPED: "dim",
}


def plan(console: Console, found: FleetPlan) -> None:
    """Print what would change."""
    if found.build:
        console.print(f"[yellow]to build first[/]: headend models build {' '.join(found.build)}")
    for name in found.retire:
        console.print(f"[bold]site {name}[/]\n  [red]stop    [/] all of it: it is not declared any more")
    for site in found.sites:
        console.print(f"[bold]site {site.site}[/]" + ("" if site.changes else ": nothing to change"))
        for verb, colour, what in _lines(site):
            console.print(f"  [{colour}]{verb:8}[/] {escape(what)}")
    if not found.changes:
        console.print("Everything is as declared.")


def _lines(site: SitePlan) -> list[tuple[str, str, str]]:
    rows = (
        ("conflict", "red", site.conflicts),
        ("exposed", "red", site.exposed),
        ("write", "cyan", site.write),
        ("start", "green", site.start),
        ("restart", "yellow", site.restart),
        ("stop", "red", site.stop),
        ("keep", "dim", site.keep),
    )
    return [(verb, colour, what) for verb, colour, many in rows for what in many]


def status(console: Console, found: FleetStatus) -> None:
    """Print a table of sites and parts."""
    table = Table(box=None, pad_edge=False)
    for heading in ("site", "part", "state", "since", "pid", "memory", "restarts", "listens on"):
        table.add_column(heading, justify="right" if heading in ("pid", "memory", "restarts") else "left")
    for name, site in found.sites.items():
        table.add_row(name, "", _state(site.state), "", _pid(site.pid), _mib(site.memory), "", _doors(site))
        for part_name, part in site.parts.items():
            table.add_row("", part_name, *_cells(part))
    console.print(table)
    for name, site in found.sites.items():
        for part_name, part in site.parts.items():
            if part.error and part.state is not State.READY:
                console.print(f"[yellow]{name} {part_name}[/]: {escape(part.error)}")
    for name, site in found.sites.items():
        if site.draining:
            console.print(f"[yellow]{name}[/] is draining: other sites answer what they can in its place.")
    if found.rollout:
        rollout(console, found.rollout)
    ready = "[green]ready[/]" if found.ready else "[red]not ready[/]"
    console.print(f"Fleet {found.fleet} is {ready}; it holds {_mib(found.memory)}.")


def rollout(console: Console, found: RolloutStatus) -> None:
    """Print how far a roll-out has come, and what was found at each step."""
    for each in found.findings:
        what = f"{each.step.site:10} {'undid ' if each.undone else ''}{each.step}"
        console.print(f"  {what}  [dim]{each.seconds:.1f} s[/]  {escape(each.said)}")
    for model, why in found.held.items():
        console.print(f"[yellow]{model}[/] stays; its newer bundle was rolled back: {escape(why)}")
        console.print("  To try that once more: headend apply --again")
    console.print(_sentence(found))


def _sentence(found: RolloutStatus) -> str:
    what, why = f"Revision {found.revision}", escape(found.reason)
    cut = "" if found.alive else " [yellow]It was cut off[/]: headend apply goes on, headend rollback back."
    match found.status:
        case "done":
            return f"{what} [green]is served[/]." if found.steps else "Everything is as declared."
        case "undone":
            return f"{what} [red]was rolled back[/] to revision {found.before}: {why}"
        case "undoing":
            return f"{what} is being [red]rolled back[/] ({found.site}: {found.step}): {why}{cut}"
    return f"{what} is being rolled out: {found.step} at {found.site}, step {found.at} of {found.steps}.{cut}"


def _cells(part: PartStatus) -> tuple[str, ...]:
    ports = ", ".join(f"{purpose} {port}" for purpose, port in part.ports.items())
    restarts = str(part.restarts) if part.restarts else ""
    return _state(part.state), _age(part.since), _pid(part.pid), _mib(part.memory), restarts, ports


def _state(state: State) -> str:
    return f"[{_COLOUR[state]}]{state}[/]"


def _doors(site: SiteStatus) -> str:
    return f"[bold]{site.front_door}[/] (peers: {site.peer})"


def _pid(pid: int | None) -> str:
    return str(pid) if pid else ""


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB" if size else ""


def _age(since: float) -> str:
    seconds = int(time.time() - since)
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
