"""Options that several commands share, and what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from models.errors import UsageError
from serving.fleet import Fleet, demo_fleet
from serving.site.status import running_fleet

FleetFile = Annotated[
    Path | None,
    typer.Option("--fleet", "-f", help="The fleet's declaration; by default the packaged demo fleet."),
]
AnyFleet = Annotated[
    Path | None,
    typer.Option("--fleet", "-f", help="The fleet's declaration; by default the fleet that runs here."),
]
OneSite = Annotated[str | None, typer.Option("--site", help="Only this site.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to standard output, for scripts.")]


def declared(file: Path | None) -> Fleet:
    """The fleet of the file, by default the demo's."""
    return Fleet.load(file) if file else demo_fleet()


def known(file: Path | None) -> Fleet:
    """The fleet of the file, by default the one that runs here."""
    return Fleet.load(file) if file else running_fleet()


def sites_of(fleet: Fleet, site: str | None) -> list[str]:
    """The named site, by default all. Raises `UsageError` when the fleet has none of that name."""
    if site is None:
        return list(fleet.sites)
    if site not in fleet.sites:
        raise UsageError(
            f"Fleet {fleet.fleet} has no site `{site}`.", hint=f"Its sites: {', '.join(fleet.sites)}."
        )
    return [site]
