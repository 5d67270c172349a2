"""The command `headend loadtest capacity`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loadtests import campaign as campaigns
from models.console import err, out, print_json
from models.errors import HeadendError, UsageError
from models.home import home

if TYPE_CHECKING:
    from loadtests.capacity.loads import Load
    from loadtests.capacity.steps import LoadStep
    from loadtests.engine import Targets
    from loadtests.knee import Knee
    from serving.fleet import Fleet

UNUSABLE = 2
_FEWEST = 5
"""Requests that a step judges on average at the lowest load: with fewer, one may well have none at all."""


def command(
    name: Annotated[
        str, typer.Argument(metavar="CAMPAIGN", help="A shipped campaign's name, or a file's path.")
    ],
    fleet: Annotated[
        Path | None,
        typer.Option("--fleet", "-f", help="The fleet's declaration; by default the fleet that runs here."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="URL", help="One front door instead of a fleet: http://HOST:PORT."),
    ] = None,
    site: Annotated[
        str | None, typer.Option("--site", help="Only this site; with --target, what it is called.")
    ] = None,
    step_s: Annotated[float, typer.Option("--step-s", min=1, max=3600, help="Seconds of one step.")] = 30,
    steps: Annotated[int, typer.Option("--steps", min=1, max=200, help="Most steps of one search.")] = 24,
    workers: Annotated[
        int, typer.Option("--workers", "-w", min=1, max=64, help="Processes that send. One fills one core.")
    ] = 1,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="Where records are kept; by default in $HEADEND_HOME/capacity."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Find the most load at which a campaign's objectives hold: of each of its works alone, then of the mix.

    Short steps of load go up until something does not hold, and then close in on the knee from both sides;
    single steps are noisy, so the answer is an interval. A fleet's sites are asked one by one at the door
    that they have for each other, so that none is helped. Takes a quarter of an hour for each search.

    `SITE.yaml` in the folder keeps what was found, beside what was found before; a site of a fleet file
    refers to it with `capacity: PATH`. Ctrl-C keeps what was found. The exit code is 2 when nothing was.
    """
    campaign = campaigns.find(name)
    chosen, places = _places(fleet, target, site)
    survey = _Survey(campaign, chosen, step_s, steps, workers, folder or _folder(chosen, target))
    try:
        survey.go(places)
    except HeadendError:
        if not json:  # there the error is the one document
            survey.show(json)
        raise
    survey.show(json)
    if survey.interrupted or not survey.records:
        raise typer.Exit(UNUSABLE)


@dataclass(frozen=True)
class _Place:
    """A site that is searched."""

    site: str
    targets: Targets
    pools: frozenset[str] | None
    """What it serves; None: not known."""


def _places(file: Path | None, target: str | None, site: str | None) -> tuple[Fleet | None, list[_Place]]:
    from loadtests.engine import Targets
    from serving.fleet import Fleet
    from serving.site.status import running_fleet

    if target:
        if file:
            raise UsageError("--fleet and --target exclude each other.", hint="Give one of them.")
        targets = Targets.of_url(target)
        (door,) = targets.doors
        return None, [_Place(site or door, targets, None)]
    fleet = Fleet.load(file) if file else running_fleet()
    chosen = Targets.of_fleet(fleet, [site] if site else None).doors
    return fleet, [
        # The peer door leads to the site's own parts only; the front door would ask others for help.
        _Place(
            name,
            Targets({name: fleet.sites[name].peer_address}, fleet),
            frozenset({*fleet.models_at(name), *fleet.apps_at(name)}),
        )
        for name in chosen
    ]


def _folder(fleet: Fleet | None, target: str | None) -> Path:
    return home() / "capacity" / (fleet.fleet if fleet else _file_name(target or ""))


def _file_name(site: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", site).strip("-")


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Survey:
    """All searches of one command, and what they found."""

    def __init__(
        self,
        campaign: campaigns.Campaign,
        fleet: Fleet | None,
        step_s: float,
        steps: int,
        workers: int,
        folder: Path,
    ) -> None:
        self._campaign, self._fleet, self._folder = campaign, fleet, folder
        self._step_s, self._steps, self._workers = step_s, steps, workers
        self._began = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self._found: list[tuple[str, Load, Knee[LoadStep]]] = []
        self._spend = campaign.limits.spend
        self.records: dict[str, Path] = {}
        self.interrupted = False

    def go(self, places: list[_Place]) -> None:
        """Search at every place, one after the other, until an interrupt."""
        # All of them first: what cannot be asked should be known before the first hour is over.
        for place, load in list(self._searches(places)):
            self._search(place, load)
            if self.interrupted:
                return

    def _searches(self, places: list[_Place]) -> Iterator[tuple[_Place, Load]]:
        from loadtests.capacity.loads import loads

        for place in places:
            for load in loads(self._campaign, place.pools):
                yield place, load

    def _search(self, place: _Place, load: Load) -> None:
        from loadtests.capacity import show
        from loadtests.capacity.loads import WARM_UP
        from loadtests.capacity.steps import Prober
        from loadtests.knee import search

        name = f"{_file_name(place.site)}-{load.file_name}"
        probe = Prober(
            load, place.targets, self._folder / "steps" / f"{name}-{self._began}",
            self._step_s, self._workers, self._spend,
        )  # fmt: skip
        lowest = _FEWEST / (self._step_s * (1 - WARM_UP))
        with err.status(f"{place.site}: {load.title}, steps of {self._step_s:g} s"):
            knee = search(
                probe,
                max(load.rate, lowest),
                lowest=lowest,
                steps=self._steps,
                tell=lambda knee: err.print(show.step_line(place.site, load, knee)),
            )
        self._spend, self.interrupted = probe.spend_left, probe.interrupted
        if knee.steps:
            self._keep(place, load, knee)
            show.chart(self._folder / f"{name}.png", place.site, load, knee)
        if probe.failure:
            raise probe.failure

    def _keep(self, place: _Place, load: Load, knee: Knee[LoadStep]) -> None:
        from loadtests.capacity.record import record_of

        self._found.append((place.site, load, knee))
        is_here = all(_is_loopback(address) for address in place.targets.doors.values())
        found = record_of(place.site, load, knee, self._step_s, self._fleet, is_here=is_here)
        if found is None:
            return
        path = self._folder / f"{_file_name(place.site)}.yaml"
        # A search that was broken off replaces no earlier one unless both sides of the knee were seen.
        found.merge_into(path, replace=knee.ended != "stopped" or knee.rate is not None)
        self.records[place.site] = path

    def show(self, json: bool) -> None:
        """What was found, on standard output."""
        from loadtests.capacity import show

        if json:
            print_json(
                {
                    "records": {site: str(path) for site, path in self.records.items()},
                    "found": [_as_json(*each) for each in self._found],
                }
            )
        elif self._found:
            out.print(show.table(self._found))
            for note in show.notes(self._found):
                out.print(note)
            for path in self.records.values():
                out.print(f"record: {path}")


def _as_json(site: str, load: Load, knee: Knee[LoadStep]) -> dict[str, Any]:
    return {
        "site": site,
        "load": load.name,
        "is_mix": load.is_mix,
        "per_second": knee.rate,
        "at_least": knee.at_least,
        "below": knee.below,
        "ended": knee.ended,
        "steps": [
            {
                "per_second": step.rate,
                "outcome": step.outcome,
                "reason": step.reason,
                "sent": step.sent,
                "p50_ms": step.p50_ms,
                "p99_ms": step.p99_ms,
            }
            for step in knee.steps
        ],
    }
