"""The command `headend`: the fleet's life on this machine, and the sub-commands that houses register."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import entry_points, version
from typing import Annotated, NoReturn

import typer

from models.console import err, out, print_json, run
from models.errors import HeadendError, UsageError
from serving import call, dashboards_cli, doctor, fleet_cli, keys_cli, rollout_cli, routes_cli
from serving.cli_options import AnyFleet, AsJson, FleetFile, OneSite, declared, known, sites_of
from serving.fleet import Fleet
from serving.site import lifecycle, logs, show, waiting
from serving.site.plan import make_plan
from serving.site.rollout.summary import with_coming
from serving.site.spec import SiteDirectory
from serving.site.status import running_sites, status_of

app = typer.Typer(
    name="headend",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Serves a broadcaster's media AI from many sites as one fleet.\n\n"
    "On a new machine: `headend doctor`, `headend models build --all`, `headend up`.",
)

_INTERRUPTED = 130


def main() -> None:
    """Run the command; an error that a person can act on is printed without a traceback."""
    for entry in sorted(entry_points(group="headend.commands")):
        app.add_typer(entry.load(), name=entry.name)
    run(app)


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"headend {version('headend')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def plan(file: FleetFile = None, site: OneSite = None, as_json: AsJson = False) -> None:
    """Show what `headend up` would change, and change nothing."""
    fleet = declared(file)
    found = make_plan(fleet, sites_of(fleet, site))
    if as_json:
        print_json(asdict(found) | {"changes": found.changes})
    else:
        show.plan(out, found)


@app.command()
def up(
    file: FleetFile = None,
    site: OneSite = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when all is ready.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start what the fleet declares, or change what runs to it; Ctrl-C ends what was started.

    With `--detach`, sites run on until `headend down`; the exit code is 1 when one cannot become ready.
    """
    fleet = declared(file)
    sites = sites_of(fleet, site)
    directories = [SiteDirectory(fleet.fleet, name) for name in sites]
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    started: list[SiteDirectory] = []
    try:
        with err.status("starting"):
            lifecycle.up(fleet, sites, err.print, started, parent=None if detach else os.getpid())
            waiting.wait_ready(directories, err.print)
        _show_status(fleet, sites, as_json)
        if started and not detach:
            err.print("All is ready. Ctrl-C ends it.")
            waiting.watch(started, err.print)
    except KeyboardInterrupt:
        _end(started)
        raise typer.Exit(_INTERRUPTED) from None
    except HeadendError:
        if not detach:
            _end(started)
        raise


@app.command()
def status(file: AnyFleet = None, site: OneSite = None, as_json: AsJson = False) -> None:
    """Show how sites and parts are; the exit code is 0 when all are ready, else 1."""
    fleet = known(file) if file else with_coming(known(None))
    if not _show_status(fleet, sites_of(fleet, site), as_json):
        raise typer.Exit(1)


@app.command()
def down(file: AnyFleet = None, site: OneSite = None, as_json: AsJson = False) -> None:
    """End the sites; Ctrl-C does not wait for what still works."""
    fleet = known(file)
    names = dict.fromkeys([*sites_of(fleet, site), *([] if site else running_sites(fleet.fleet))])
    asked = _end([SiteDirectory(fleet.fleet, name) for name in names])
    if as_json:
        print_json({"stopped": [directory.site for directory in asked]})
    elif not asked:
        out.print(f"Nothing of fleet {fleet.fleet} is running.")


@app.command("logs")
def show_logs(
    site: Annotated[str, typer.Argument(help="The site.")],
    part: Annotated[
        str | None, typer.Argument(help="triton, serve, envoy, agent or supervisor; by default all.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Last lines of each log.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", help="Go on as they are written; Ctrl-C ends.")] = False,
    file: AnyFleet = None,
    as_json: AsJson = False,
) -> None:
    """Show what a site's parts wrote."""
    fleet = known(file)
    directory = SiteDirectory(fleet.fleet, sites_of(fleet, site)[0])
    files = {path.stem: path for path in sorted(directory.logs.glob("*.log"))}
    if part is not None and part not in files:
        there = ", ".join(files) or "none yet"
        raise UsageError(f"Site {site} has no log of `{part}`.", hint=f"There are: {there}.")
    chosen = {name: path for name, path in files.items() if part in (None, name)}
    for name, path in chosen.items():
        for text in logs.tail(path, lines):
            _print_line(name, text, as_json, alone=part is not None)
    if follow:
        try:
            for name, text in logs.follow(chosen):
                _print_line(name, text, as_json, alone=part is not None)
        except KeyboardInterrupt:
            raise typer.Exit from None


@app.command()
def schema() -> None:
    """Print the JSON Schema of fleet.yaml, for editors."""
    print_json(Fleet.model_json_schema())


rollout_cli.add_to(app)
app.add_typer(call.app, name="call")
app.add_typer(fleet_cli.app, name="fleet")
app.add_typer(keys_cli.app, name="keys")
app.add_typer(routes_cli.app, name="routes")
app.add_typer(dashboards_cli.app, name="dashboards")
app.command("doctor")(doctor.command)


def _show_status(fleet: Fleet, sites: Sequence[str], as_json: bool) -> bool:
    found = status_of(fleet, sites)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        show.status(out, found)
    return found.ready


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _end(directories: Sequence[SiteDirectory]) -> list[SiteDirectory]:
    """End sites and wait for it; an interrupt meanwhile kills what still works. Returns those that ran."""
    asked = lifecycle.ask_to_end(directories)
    while True:
        try:
            with err.status("ending; Ctrl-C kills"):
                lifecycle.wait_ended(directories, err.print)
            return asked
        except KeyboardInterrupt:
            lifecycle.ask_to_end(directories)


def _print_line(name: str, text: str, as_json: bool, alone: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"part": name, "line": text}, ensure_ascii=False))
    else:
        typer.echo(text if alone else f"{name:10} {text}")
