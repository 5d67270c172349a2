"""What a scenario's run leaves: `results.json`, a table, and a page that leads to the cells' own reports."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Literal, Self

import psutil
from jinja2 import Environment
from markupsafe import Markup
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from loadtests.bench.machine import Watch
from loadtests.testbed.drive import Outcome
from loadtests.testbed.figures import Cost, Figures
from loadtests.testbed.intervals import Ratio
from loadtests.testbed.scenario import Scenario
from models.errors import UsageError
from models.files import write_atomic
from models.schema import Strict

RESULTS, PAGE = "results.json", "report.html"


class Results(Strict):
    """Everything that was found."""

    scenario: Scenario
    hardware: str
    headend: str
    """headend's version."""
    figures: list[Figures]
    costs: list[Cost]
    problems: dict[str, list[str]]
    """By cell, why its figures cannot be trusted."""
    pressure: dict[str, float]
    """By cell, the share of the time in which some task of the machine waited for a core."""

    @classmethod
    def of(cls, scenario: Scenario, outcomes: Sequence[Outcome]) -> Self:
        """Of all cells that were run."""
        machine = Watch.start().stop()
        return cls(
            scenario=scenario,
            hardware=f"{os.cpu_count()} × {machine.cpu}, {psutil.virtual_memory().total / 2**30:.0f} GiB",
            headend=version("headend"),
            figures=[row for one in outcomes for row in one.figures],
            costs=[cost for one in outcomes for cost in one.costs],
            problems={one.cell: one.problems for one in outcomes if one.problems},
            pressure={one.cell: one.pressure for one in outcomes},
        )

    def with_cells_of(self, earlier: Results) -> Results:
        """These results, and those of `earlier` for cells that are not here, in the scenario's order."""
        order = [cell.name for cell in self.scenario.cells]

        def place(row: Figures | Cost) -> int:
            return order.index(row.cell)

        def is_kept(row: Figures | Cost) -> bool:
            return row.cell in order and row.cell not in self.pressure

        return self.model_copy(
            update={
                "figures": sorted([*filter(is_kept, earlier.figures), *self.figures], key=place),
                "costs": sorted([*filter(is_kept, earlier.costs), *self.costs], key=place),
                "problems": {
                    **{cell: found for cell, found in earlier.problems.items() if cell not in self.pressure},
                    **self.problems,
                },
                "pressure": earlier.pressure | self.pressure,
            }
        )

    def ratio(self, row: Figures, of: Literal["mean_ms", "p99_ms"]) -> float | None:
        """A figure over the best policy's in the same cell and class; None where nothing is compared."""
        rivals = [
            float(getattr(other, of))
            for other in self.figures
            if (other.cell, other.class_) == (row.cell, row.class_) and other.mean_ms
        ]
        return float(getattr(row, of)) / min(rivals) if len(rivals) > 1 else None


def left_in(folder: Path, scenario: Scenario) -> Results | None:
    """What an earlier run has left there; None: nothing.

    Raises `UsageError` when it is of another scenario, or of this one as it was declared before.
    """
    path = folder / RESULTS
    if not path.exists():
        return None
    with suppress(ValidationError):
        earlier = Results.model_validate_json(path.read_bytes())
        if earlier.scenario.model_dump(exclude={"cells"}) == scenario.model_dump(exclude={"cells"}):
            return earlier
    raise UsageError(f"{path} is not of this scenario as it is declared now.", hint="Give another folder.")


def write(results: Results, folder: Path) -> None:
    """Write `results.json` and `report.html`."""
    write_atomic(folder / RESULTS, results.model_dump_json(indent=1, by_alias=True).encode())
    css = resources.files("loadtests.report").joinpath("page.css").read_text("utf-8")
    template = resources.files("loadtests.testbed").joinpath("report.html").read_text("utf-8")
    page = Environment(autoescape=True).from_string(template)
    text = page.render(results=results, times=times, css=Markup(css))  # noqa: S704 - our own file
    write_atomic(folder / PAGE, text.encode())


def show(console: Console, results: Results) -> None:
    """Print the tables."""
    if results.costs:
        console.print(_costs(results.costs))
    console.print(_figures(results))
    for cell, problems in results.problems.items():
        console.print(f"{cell}: {'; '.join(problems)}", markup=False)


def _figures(results: Results) -> Table:
    table = Table(
        "cell",
        "policy",
        "class",
        "requests",
        "failed",
        "mean",
        "to best",
        "p50",
        "p99",
        "to best",
        "to plan",
        "goodput",
        "of capacity",
        "attempts",
        box=None,
        pad_edge=False,
    )
    for row in results.figures:
        table.add_row(
            row.cell,
            row.policy or "the fleet's own",
            row.class_,
            f"{row.requests:,}",
            f"{row.failed:,}",
            f"{row.mean_ms:,.0f} ms",
            times(results.ratio(row, "mean_ms")),
            f"{row.p50_ms:,.0f} ms",
            f"{row.p99_ms:,.0f} ms",
            times(results.ratio(row, "p99_ms")),
            times(row.mean_to_plan),
            f"{row.goodput:.1%}",
            f"{row.of_capacity:.1%}",
            f"{row.attempts:.2f}, most {row.most_attempts}",
        )
    return table


def times(ratio: float | Ratio | None) -> str:
    """`1.25×`, with its interval where there is one."""
    if isinstance(ratio, Ratio):
        around = f" ({ratio.low:.2f} to {ratio.high:.2f})" if ratio.low and ratio.high else ""
        return f"{ratio.value:.2f}×{around}"
    return "" if ratio is None else f"{ratio:.2f}×"


def _costs(costs: Sequence[Cost]) -> Table:
    table = Table(
        "cell",
        "fault",
        "there before",
        "requests",
        "failed",
        "recovered",
        "slowest",
        "p99 before",
        "p99 during",
        "healed",
        box=None,
        pad_edge=False,
    )
    for cost in costs:
        failed = ", ".join(f"{count} {outcome}" for outcome, count in cost.examples.items())
        table.add_row(
            cost.cell,
            cost.fault,
            f"{cost.there_before:.0%}",
            f"{cost.requests:,}",
            failed or "0",
            f"{cost.recovered_s:.0f} s",
            f"{cost.slowest_ms:,.0f} ms",
            f"{cost.p99_before_ms:,.0f} ms",
            f"{cost.p99_during_ms:,.0f} ms",
            "" if cost.healed_s is None else f"{cost.healed_s:.0f} s",
        )
    return table
