"""A picture of simulated cells: mean and p99 over load, a panel for each ingress, a line for each policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtests.bench.simulated import LOSSY, METRICS, OURS
from loadtests.sim.policies import BOUND

_WORDS = {"mean_ms": "mean, ms", "p99_ms": "p99, ms"}


def draw(cells: Sequence[Mapping[str, Any]], policies: Sequence[str], path: Path) -> None:
    """Write the picture as PNG. Cells in which a policy failed requests are left out of its line."""
    from matplotlib.figure import Figure  # takes a second to import

    ingresses = list(dict.fromkeys(cell["ingress"] for cell in cells))
    figure = Figure(figsize=(3.2 * len(ingresses), 6.4), layout="constrained")
    panels = figure.subplots(len(METRICS), len(ingresses), sharex=True, sharey="row", squeeze=False)
    for row, metric in zip(panels, METRICS, strict=True):
        row[0].set_ylabel(_WORDS[metric])
        for panel, ingress in zip(row, ingresses, strict=True):
            mine = [cell for cell in cells if cell["ingress"] == ingress]
            for number, policy in enumerate(policies):
                loads, values = _line(mine, policy, metric)
                panel.plot(loads, values, label=policy, **_style(policy, number))
            panel.set_yscale("log")
            panel.grid(visible=True, which="both", alpha=0.2)
    for panel, ingress in zip(panels[0], ingresses, strict=True):
        panel.set_title(f"clients {ingress}")
    for panel in panels[-1]:
        panel.set_xlabel("load, % of capacity")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(path, dpi=110)


def _line(cells: Sequence[Mapping[str, Any]], policy: str, metric: str) -> tuple[list[float], list[float]]:
    whole = [cell for cell in cells if cell["policies"][policy]["failed"] <= LOSSY]
    return [100 * cell["load"] for cell in whole], [cell["policies"][policy][metric] for cell in whole]


def _style(policy: str, number: int) -> dict[str, Any]:
    if policy == OURS:
        return {"color": "black", "linewidth": 2.5, "marker": "o", "zorder": 3}
    if policy == BOUND:
        return {"color": "black", "linestyle": ":"}
    return {"color": f"C{number % 10}", "linewidth": 1.2, "marker": ".", "alpha": 0.9}
