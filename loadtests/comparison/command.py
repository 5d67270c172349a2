"""`headend loadtest compare`: two runs that are there, or rounds of two targets in turn."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from loadtests import campaign as campaigns
from loadtests.campaign import Campaign
from loadtests.comparison.compare import FEWEST_ROUNDS, Change, Comparison, Ratio, compare
from loadtests.report import words
from loadtests.results import Result
from models.console import err, out, print_json
from models.errors import HeadendError, UsageError
from models.files import write_atomic
from models.home import home

COMPARISON = "comparison.json"
_COLOURS: dict[Change, str] = {"worse": "red", "better": "green", "none": "dim"}
_INCONCLUSIVE = 2


def command(
    what: Annotated[
        list[str],
        typer.Argument(metavar="RUN_A RUN_B | CAMPAIGN", help="Two runs' folders; or a campaign to run now."),
    ],
    target: Annotated[
        str | None, typer.Option("--target", metavar="URL_A", help="With a campaign: the front door A.")
    ] = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="URL_B", help="With a campaign: the front door B.")
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=FEWEST_ROUNDS, help="Runs of each target, in shuffled order within each round.")
    ] = 6,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="Where rounds are kept; by default a new one in $HEADEND_HOME/loadtests."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on standard output.")
    ] = False,
) -> None:
    """Compare two runs of the same campaign, or two targets by running it against both in turn.

    Ratios of B over A with intervals. The exit code is 0 when no difference was shown or B is better, 1 when
    B is worse, 2 when the runs cannot be compared.

    Two runs made one after the other differ by whatever else changed meanwhile; rounds in turn do not.
    """
    if target and against:
        if len(what) != 1:
            raise UsageError("with --target and --against give one campaign")
        campaign = campaigns.find(what[0])
        chosen = folder or home() / "loadtests" / f"{campaign.campaign}-ab-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        found = compare(*interleaved(campaign, target, against, rounds, chosen))
        write_atomic(chosen / COMPARISON, found.model_dump_json(indent=1).encode())
    elif target or against:
        raise UsageError(
            "--target and --against go together", hint="A is the target, B what it is compared with."
        )
    elif len(what) != 2:
        raise UsageError(
            "give two runs' folders", hint="Or a campaign with --target URL_A and --against URL_B."
        )
    else:
        a, b = (Result.load(Path(one)) for one in what)
        found = compare([a], [b])
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        show(found)
    raise typer.Exit(1 if found.verdict == "worse" else 0)


def interleaved(
    campaign: Campaign, target: str, against: str, rounds: int, folder: Path
) -> tuple[list[Result], list[Result]]:
    """Run the campaign `rounds` times against both, which of them first being drawn for each round.

    What drifts meanwhile drifts for both of a round alike. Raises `HeadendError` when a run is interrupted;
    the folder keeps what was done.
    """
    from loadtests.engine import Targets, run_campaign

    doors = {"a": Targets.of_url(target), "b": Targets.of_url(against)}
    results: dict[str, list[Result]] = {"a": [], "b": []}
    order = random.Random(campaign.seed)
    for number in range(1, rounds + 1):
        for side in order.sample(sorted(doors), 2):
            err.print(f"round {number} of {rounds}: {side.upper()}, {' '.join(doors[side].doors)}")
            out_folder = folder / f"round-{number:02}-{side}"
            results[side].append(run_campaign(campaign, doors[side], out_folder, report=False))
            _usable(results[side][-1], folder)
    return results["a"], results["b"]


def _usable(result: Result, folder: Path) -> None:
    """Stop at once when the rounds could not be compared at the end."""
    if not result.complete or result.verdict == "invalid":
        why = "; ".join(result.generator.problems) or f"it ended by `{result.ended_by}`"
        error = HeadendError(
            f"run {result.run} cannot be compared: {why}", hint=f"What was done is in {folder}."
        )
        error.exit_code = _INCONCLUSIVE
        raise error


def show(found: Comparison) -> None:
    """Print the verdict, then every figure."""
    out.print(f"[bold {_COLOURS[found.verdict]}]{escape(found.words)}[/]")
    table = Table(box=None, pad_edge=False)
    for heading in ("class", "figure", "A", "B", "B / A", "interval", ""):
        table.add_column(heading, justify="left" if heading in ("class", "figure", "") else "right")
    for one in found.ratios:
        table.add_row(
            one.class_ or "all",
            one.figure + (" *" if one.decides else ""),
            _value(one, one.a),
            _value(one, one.b),
            one.factor(one.ratio),
            one.interval,
            "" if one.change == "none" else f"[{_COLOURS[one.change]}]{one.change}[/]",
        )
    out.print(table)
    out.print(
        f"[dim]* decides. Intervals: {found.method}; {found.confidence:.1%} each, 95% for all that decide.[/]"
    )
    for note in found.notes:
        out.print(f"[dim]{escape(note)}[/]")


def _value(one: Ratio, value: float) -> str:
    if one.figure == "throughput":
        return words.rate(value)
    return words.ms(value) if one.latency else words.share(value)
