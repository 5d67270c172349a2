"""`headend loadtest testbed`: scenarios on real sites in network namespaces of this machine."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from loadtests.testbed import scenario as scenarios
from loadtests.testbed import streams
from loadtests.testbed.scenario import Cell, Scenario
from models.console import err, out, print_json
from models.errors import UsageError
from models.home import home

if TYPE_CHECKING:
    from loadtests.testbed.report import Results

app = typer.Typer(
    name="testbed",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Real sites on this machine, each in a network namespace of its own, joined by shaped links.\n\n"
    "Envoy, Triton and the supervisors are real; the models only take the time that the scenario declares. "
    "Needs root, iproute2 and /dev/net/tun.",
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


@app.command("list")
def list_(json: Json = False) -> None:
    """The scenarios that come with headend."""
    found = {name: Scenario.load(path) for name, path in scenarios.shipped().items()}
    rows = [
        {"scenario": name, "what it shows": one.title, "cells": len(one.cells), "sites": len(one.sites)}
        for name, one in found.items()
    ]
    rows.append({"scenario": streams.NAME, "what it shows": streams.TITLE, "cells": 3, "sites": 3})
    if json:
        return print_json(rows)
    table = Table("scenario", "what it shows", "cells", "sites", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(str, row.values()))
    return out.print(table)


@app.command()
def run(
    name: Annotated[
        str, typer.Argument(metavar="SCENARIO", help="A shipped scenario's name, or a file's path.")
    ],
    only: Annotated[
        list[str] | None, typer.Option("--cell", help="Only this cell; may be given more than once.")
    ] = None,
    short: Annotated[bool, typer.Option("--short", help="The short form: a few cells, one round.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Where results go; by default a new folder in $HEADEND_HOME/loadtests. What other cells "
            "left there stays in the report.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Build the scenario's sites, run its cells, and take everything down.

    The folder gets `results.json`, `report.html`, and for each cell the folder of its campaign's run. The
    exit code is 0 when all was run, whatever the figures. An interrupt ends it: what was run until then is
    reported, and the rest can be taken up later.
    """
    from loadtests.testbed import drive, report
    from loadtests.testbed.bed import Testbed

    chosen = folder or home() / "loadtests" / f"testbed-{Path(name).stem}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    if name == streams.NAME:
        return _run_streams(chosen, only or [], short=short, json=json)
    scenario = scenarios.find(name)
    cells = _cells(scenario, only or [], short)
    earlier = report.left_in(chosen, scenario)
    if taken := [cell.name for cell in cells if (chosen / cell.name).exists()]:
        raise UsageError(f"{chosen} has a run of {', '.join(taken)} already.", hint="Give another folder.")
    with Testbed(scenario, err.print) as bed:
        outcomes = drive.run(bed, cells, chosen.absolute(), err.print)
    results = report.Results.of(scenario, outcomes)
    if earlier is not None:
        results = results.with_cells_of(earlier)
    if outcomes:
        _publish(results, chosen, json=json)
    if left := [cell.name for cell in cells[len(outcomes) :]]:
        options = " ".join(f"--cell {name}" for name in left)
        err.print(
            f"Ended early, without {', '.join(left)}. To go on: --out {chosen} {options}", soft_wrap=True
        )
        raise typer.Exit(1)


def _publish(results: Results, folder: Path, *, json: bool) -> None:
    from loadtests.testbed import report

    report.write(results, folder)
    if json:
        print_json(results.model_dump(mode="json", by_alias=True))
    else:
        report.show(out, results)
        out.print(f"Report: {folder / report.PAGE}")


@app.command()
def down(json: Json = False) -> None:
    """End whatever a testbed left on this machine, however it ended."""
    from loadtests.testbed import bed

    bed.refuse()
    removed = bed.down()
    if json:
        print_json({"removed": removed})
    else:
        out.print(f"Removed: {', '.join(removed)}." if removed else "No testbed is on this machine.")


def _run_streams(folder: Path, only: list[str], *, short: bool, json: bool) -> None:
    from loadtests.testbed.streams import report
    from loadtests.testbed.streams.run import run

    if only:
        raise UsageError(f"Scenario {streams.NAME} has no cells: each change follows from the last.")
    results = report.Results.of(run(err.print, short=short))
    report.write(results, folder)
    if json:
        print_json(results.model_dump(mode="json"))
    else:
        report.show(out, results)
        out.print(f"Report: {folder / report.PAGE}")


def _cells(scenario: Scenario, only: list[str], short: bool) -> list[Cell]:
    if short:
        cells = [cell for cell in scenario.cells if cell.name in scenario.short]
        return [cell.shortened(scenario.short_s) for cell in cells]
    return [scenario.cell(name) for name in only] or scenario.cells
