"""`headend loadtest`: prove what a fleet holds, find where it breaks, see what a change did."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core
import typer.main
from rich.table import Table

from loadtests import campaign as campaigns
from loadtests.campaign import Campaign
from loadtests.testbed.cli import app as testbed
from models.console import out, print_json
from models.errors import MissingExtraError, UsageError
from models.home import home

if TYPE_CHECKING:
    from loadtests.engine import Targets

_LATE = {
    "capacity": "loadtests.capacity",
    "compare": "loadtests.comparison",
    "simulate": "loadtests.sim",
}
"""Commands whose modules bring numpy along, which other commands of `headend` need not wait for."""


class _Commands(typer.core.TyperGroup):
    """Imports the late ones when they are asked for. (typer's own types for this differ by version.)"""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *_LATE]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _LATE:
            return super().get_command(ctx, cmd_name)
        _check_extra()
        alone = typer.Typer(add_completion=False, rich_markup_mode="markdown")
        alone.command(cmd_name)(import_module(_LATE[cmd_name]).command)
        return typer.main.get_command(alone)


app = typer.Typer(
    name="loadtest",
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Load-test campaigns: prove what a fleet holds before a broadcast does.\n\n"
    "A campaign is a YAML file that says what is sent (real inputs, by the clients that services use), when "
    "(open-loop: requests start on time whatever the fleet does, and latency counts from then), what happens "
    "meanwhile, and what must hold. Try one on the fleet that runs here:\n\n"
    "`headend loadtest run smoke`",
)

app.add_typer(testbed)

Name = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="A shipped campaign's name, or a file's path.")]
FleetFile = Annotated[
    Path | None,
    typer.Option("--fleet", "-f", help="The fleet's declaration; by default the fleet that runs here."),
]
Target = Annotated[
    str | None,
    typer.Option("--target", metavar="URL", help="One front door instead of a fleet: http://HOST:PORT."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]


@app.command()
def run(
    name: Name,
    fleet: FleetFile = None,
    target: Target = None,
    workers: Annotated[
        int, typer.Option("--workers", "-w", min=1, max=64, help="Processes that send. One fills one core.")
    ] = 1,
    web: Annotated[
        bool, typer.Option("--web", help="Open locust's page on a free port of 127.0.0.1.")
    ] = False,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="The run's folder; by default a new one in $HEADEND_HOME/loadtests."),
    ] = None,
    json: Json = False,
) -> None:
    """Run a campaign and write its report.

    Shows the run while it goes on. Ctrl-C ends it early, with a report of what there is.

    The exit code is the verdict: 0 the objectives held (or there are none), 1 they did not, 2 there is no
    verdict: the generator was the bottleneck, the run was cut short, or could not begin.

    The folder gets `report.html`, `result.json` (for `compare`), `histograms.hlog` (HdrHistogram) and
    `requests.csv.gz` (a sample of single requests).
    """
    _check_extra()
    from loadtests.engine import run_campaign
    from loadtests.engine.outcome import UNUSABLE, exit_code, show_result, summary

    campaign = campaigns.find(name)
    targets = _targets(fleet, target)
    chosen = folder or _new_folder(campaign)
    try:
        result = run_campaign(campaign, targets, chosen, workers=workers, web=web)
    except KeyboardInterrupt:
        raise typer.Exit(UNUSABLE) from None
    if json:
        print_json(summary(result, chosen))
    else:
        show_result(out, result, chosen)
    raise typer.Exit(exit_code(result))


@app.command("list")
def list_(
    inputs: Annotated[bool, typer.Option("--inputs", help="What can be sent.")] = False,
    traces: Annotated[bool, typer.Option("--traces", help="Recorded arrivals.")] = False,
    json: Json = False,
) -> None:
    """The campaigns that come with headend, or what a campaign can be written with."""
    rows = _inputs() if inputs else _traces() if traces else _campaigns()
    if json:
        return print_json(rows)
    table = Table(*rows[0], box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(str, row.values()))
    out.print(table)


@app.command()
def show(name: Name, json: Json = False) -> None:
    """A campaign in words, and the rate that it offers over time."""
    from loadtests.engine.outcome import show_campaign

    campaign = campaigns.find(name)
    if json:
        print_json(campaign.model_dump(mode="json", by_alias=True))
    else:
        show_campaign(out, campaign)


@app.command()
def validate(name: Name, json: Json = False) -> None:
    """Check a campaign without sending anything; the exit code is 2 when it has an error."""
    from loadtests.engine import checks

    campaign = campaigns.find(name)
    checks.declaration(campaign)
    if json:
        print_json({"campaign": campaign.campaign, "valid": True})
    else:
        out.print(f"{name} is a campaign: {campaign.title}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of campaigns, for editors."""
    print_json(Campaign.model_json_schema())


def _check_extra() -> None:
    if not all(find_spec(name) for name in ("locust", "hdrh", "matplotlib")):
        raise MissingExtraError("Load testing", "loadtest")


def _targets(fleet: Path | None, target: str | None) -> Targets:
    from loadtests.engine import Targets
    from serving.fleet import Fleet
    from serving.site.status import running_fleet

    if fleet and target:
        raise UsageError("--fleet and --target exclude each other.", hint="Give one of them.")
    if target:
        return Targets.of_url(target)
    return Targets.of_fleet(Fleet.load(fleet) if fleet else running_fleet())


def _new_folder(campaign: Campaign) -> Path:
    return home() / "loadtests" / f"{campaign.campaign}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def _campaigns() -> list[dict[str, Any]]:
    found = {name: Campaign.load(path) for name, path in campaigns.shipped().items()}
    return [
        {"campaign": name, "what it shows": one.title, "seconds": f"{one.seconds:g}"}
        for name, one in found.items()
    ]


def _inputs() -> list[dict[str, Any]]:
    from loadtests import inputs

    found = [inputs.get(name) for name in inputs.names()]
    return [
        {"input": one.name, "kind": one.kind, "what it is": one.title, "payloads": len(one.payloads)}
        for one in found
    ]


def _traces() -> list[dict[str, Any]]:
    from loadtests import traces

    found = {name: traces.trace(name) for name in traces.names()}
    return [
        {
            "trace": name,
            "arrivals": len(times),
            "seconds": round(float(times[-1])),
            "source": traces.source(name).splitlines()[0],
        }
        for name, times in found.items()
    ]
