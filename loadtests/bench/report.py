"""A benchmark's result: a table for people, JSON for scripts, and nothing where the machine was too busy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests.bench.compare import Variant
from loadtests.bench.machine import MAX_FOREIGN, MAX_STEAL, Conditions
from models.errors import HeadendError

console = Console()


class BusyMachineError(HeadendError):
    """The machine did too much else while the figures were taken."""


def publish(name: str, out: Path, conditions: Conditions, figures: dict[str, Any]) -> Path:
    """Write `figures` to `out/<name>.json`.

    Raises `BusyMachineError` instead where other work, or the hypervisor, took more than `MAX_FOREIGN` or
    `MAX_STEAL` of the machine.
    """
    console.print(f"[dim]{conditions}[/]")
    if not conditions.quiet:
        raise BusyMachineError(
            f"{name}: not published: others used {conditions.foreign:.0%} of the machine "
            f"(at most {MAX_FOREIGN:.0%}) and {conditions.steal:.0%} was stolen (at most {MAX_STEAL:.0%})",
            hint="Run it again when the machine is quiet.",
        )
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.json"
    result = {
        "benchmark": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "headend": metadata.version("headend"),
        "conditions": conditions.as_dict(),
        **figures,
    }
    path.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    console.print(f"[green]published[/] {path}")
    return path


def latency_table(title: str, variants: Sequence[Variant], base: Variant) -> Table:
    """Percentiles, throughput and processor time of each variant; the last column is p50 over `base`'s."""
    table = Table(title=title, title_justify="left")
    for heading in ("variant", "p50 ms", "p99 ms", "req/s", "CPU ms/req", f"p50 / {base.name} (range)"):
        table.add_column(heading, justify="left" if heading == "variant" else "right")
    for variant in variants:
        row = variant.as_dict()
        median, low, high = variant.ratio(base, lambda turn: turn.p50)
        table.add_row(
            variant.name,
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
            f"{row['per_second']:.0f}",
            f"{row['cpu_ms']:.2f}",
            f"{median:.2f} ({low:.2f}-{high:.2f})",
        )
    return table
