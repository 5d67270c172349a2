"""`headend loadtest simulate`: a campaign on a simulated fleet, under one policy after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from loadtests import campaign as campaigns
from loadtests.engine import files
from loadtests.results import RESULT, Result
from loadtests.sim.calibration import measured
from loadtests.sim.policies import BOUND, POLICIES
from loadtests.sim.run import policy_of, simulate
from loadtests.sim.topology import Topology, shipped
from loadtests.verdict import judge
from models.console import err, out, print_json
from models.errors import DeclarationError
from models.files import write_atomic

TOPOLOGY = "topology.yaml"


def command(
    name: Annotated[
        str, typer.Argument(metavar="CAMPAIGN", help="A shipped campaign's name, or a file's path.")
    ],
    topology: Annotated[
        str,
        typer.Option(
            "--topology",
            "-t",
            help="The simulated fleet: a shipped one's name (ten-sites), a file's path, or the folder of a "
            "run to measure it from.",
        ),
    ],
    policies: Annotated[
        list[str] | None,
        typer.Option("--policy", "-p", help=f"By default all: {', '.join(POLICIES)}."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="Where a run's folder is written for each policy; by default nowhere."),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="With --out: write each run's report too, which takes seconds.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:
    """Simulate a campaign on a fleet that need not exist, and compare policies of balancing.

    `headend` is what live front doors do, decided by their own code; `clairvoyant` knows every queue at every
    moment: what it reaches is the yardstick, and the last column says how far the others are from it.
    """
    campaign, fleet = campaigns.find(name), _topology(topology)
    chosen = list(dict.fromkeys(policies or POLICIES))
    for policy in chosen:
        policy_of(policy)
    if folder:
        for policy in chosen:
            files.prepare(folder / policy)
        write_atomic(folder / TOPOLOGY, fleet.to_yaml().encode())
    results: dict[str, Result] = {}
    for policy in dict.fromkeys([*chosen, BOUND]):
        with err.status(f"simulating {policy}"):
            done = simulate(campaign, fleet, policy)
            results[policy] = judge(done.result)
            if folder and policy in chosen:
                files.write(folder / policy, campaign, done.tally, results[policy])
                if report:
                    from loadtests.report import write  # brings matplotlib along

                    write(folder / policy)
    rows = {policy: _row(results[policy], results[BOUND]) for policy in chosen}
    if json:
        print_json({"campaign": campaign.campaign, "topology": fleet.topology, "policies": rows})
    else:
        out.print(_table(f"{campaign.campaign} on {fleet.topology}, simulated", rows))


def _topology(name: str) -> Topology:
    """A shipped one by its name, one from its file, or one measured from a run."""
    known = shipped()
    if name in known:
        return Topology.load(known[name])
    path = Path(name)
    if path.is_dir() or path.name == RESULT:
        return measured([Result.load(path)])
    if path.suffix not in (".yaml", ".yml") and not path.exists():
        raise DeclarationError(
            f"there is no topology `{name}`",
            hint=f"Shipped: {', '.join(known)}; or give a file's path, or a run's folder.",
        )
    return Topology.load(path)


def _row(result: Result, bound: Result) -> dict[str, Any]:
    response, best = result.histogram("response"), bound.histogram("response")
    right = sum(one.right for one in result.series)
    return {
        "sent": result.sent,
        "mean_ms": response.mean_ms,
        "p50_ms": response.percentile_ms(50),
        "p99_ms": response.percentile_ms(99),
        "error_rate": 1 - right / result.sent if result.sent else 0.0,
        "goodput": sum(one.within for one in result.series) / result.sent if result.sent else 0.0,
        "verdict": result.verdict,
        "mean_over_bound": response.mean_ms / best.mean_ms if best.count else None,
        "p99_over_bound": response.percentile_ms(99) / best.percentile_ms(99) if best.count else None,
    }


def _table(title: str, rows: dict[str, dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("policy")
    for heading in ("mean ms", "p50 ms", "p99 ms", "errors", "goodput", "verdict", f"mean, p99 / {BOUND}"):
        table.add_column(heading, justify="right")
    for policy, row in rows.items():
        mean, p99 = row["mean_over_bound"], row["p99_over_bound"]
        table.add_row(
            policy,
            f"{row['mean_ms']:,.1f}",
            f"{row['p50_ms']:,.1f}",
            f"{row['p99_ms']:,.1f}",
            f"{row['error_rate']:.2%}",
            f"{row['goodput']:.1%}",
            row["verdict"],
            "–" if mean is None else f"{mean:.2f}, {p99:.2f}",
        )
    return table
