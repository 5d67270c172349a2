"""How the plan's time and memory grow with the fleet, and how it compares with a linear program.

Made-up fleets in the plane: unlike sites that all serve 20 pools, round trips by distance, skewed load at 70%
of capacity. `first` is a plan from nothing, `next` one a second later when all loads have changed by 5%: what
an agent does all day. Both include the shares of one front door. Times are of one core. The linear program is
of one pool: the same costs in straight pieces, the same ways, solved by SciPy's HiGHS. `door` is what the
front door of one site takes from a plan until its Envoy follows it (`taking`), `agent` what an agent takes
that has heard all sites, and plans all three classes (`hearing`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from scipy.optimize import linprog
from scipy.sparse import csr_array, vstack

from loadtests.bench import report, taking
from loadtests.bench.hearing import POOLS, TICKS, names
from models.files import write_atomic
from serving.router.plan import Member, PoolProblem, Problem, plan
from serving.router.plan.planner import solve_all
from serving.router.plan.wait import GRID, marginal_s
from serving.router.view import Pool

SIZES = (10, 30, 100, 300, 1000)
LOAD = 0.7
NEWS = 0.05
LINEAR_UP_TO = 300
"""Sites; beyond it the linear program takes minutes."""
AIM_S, AIM_MIB = 1.0, 300


def made(sites: int, pools: int = POOLS, seed: int = 1) -> Problem:
    """A made-up fleet."""
    random = np.random.default_rng(seed)
    called = names("s", 4, sites)
    places = random.random((sites, 2))
    rtt = 0.002 + 0.08 * np.sqrt(((places[:, None] - places) ** 2).sum(axis=2))
    np.fill_diagonal(rtt, 0)
    return Problem(
        called,
        rtt,
        np.zeros_like(rtt),
        tuple(_pool(name, called, random) for name in names("p", 2, pools)),
    )


def _pool(name: str, sites: tuple[str, ...], random: np.random.Generator) -> PoolProblem:
    time_s = float(random.uniform(0.005, 0.1))
    members = tuple(
        Member(site, int(2 ** random.integers(0, 4)), time_s * float(random.uniform(0.5, 2)))
        for site in sites
    )
    offered = random.exponential(1, len(sites))
    offered *= LOAD * sum(member.capacity for member in members) / offered.sum()
    return PoolProblem(Pool("model", name), members, {"interactive": offered})


def changed(problem: Problem, seed: int) -> Problem:
    """The same fleet with other loads."""
    random = np.random.default_rng(seed)
    return replace(
        problem,
        pools=tuple(
            replace(
                pool,
                offered={
                    class_: rates * np.exp(NEWS * random.standard_normal(len(rates)))
                    for class_, rates in pool.offered.items()
                },
            )
            for pool in problem.pools
        ),
    )


def measure(sites: int) -> dict[str, Any]:
    """Seconds of this process, and what a real front door takes to follow."""
    problem = made(sites)
    door = problem.sites[0]
    begin = time.process_time()
    last = plan(problem, doors=[door])
    first = time.process_time() - begin
    plans = [last]
    following = [changed(problem, seed) for seed in range(TICKS)]
    begin = time.process_time()
    for each in following:
        last = plan(each, last, doors=[door])
        plans.append(last)
    next_s = (time.process_time() - begin) / TICKS
    return {
        "first_s": first,
        "next_s": next_s,
        "door": taking.measure(plans),
    }


def linear(sites: int) -> dict[str, float]:
    """Processor seconds of one pool, by the plan's own solver and by HiGHS, and both answers' costs."""
    problem = made(sites, pools=1)
    begin = time.process_time()
    own = solve_all(problem, {})[problem.pools[0].pool]
    own_s = time.process_time() - begin
    begin = time.process_time()
    loads = _highs(problem)
    return {
        "own_s": own_s,
        "highs_s": time.process_time() - begin,
        "load_difference": float(np.abs(own.load - loads).sum() / loads.sum()),
    }


def _highs(problem: Problem) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Members' loads: a variable for each way, and one for each piece of each member's cost."""
    pool, count = problem.pools[0], len(problem.sites)
    kept = pool.balancing.bound("interactive") >= GRID
    slopes = marginal_s(pool.members)[:, kept][:, :-1]
    capacity = np.array([member.capacity for member in pool.members])
    pieces = np.diff(GRID[kept]) * capacity[:, None]
    ways, steps = count * count, slopes.size
    door, site = np.divmod(np.arange(ways), count)
    of_member = np.repeat(np.arange(count), slopes.shape[1])
    sent = csr_array((np.ones(ways), (door, np.arange(ways))), shape=(count, ways + steps))
    columns = np.concatenate([np.arange(ways), ways + np.arange(steps)])
    signs = np.concatenate([np.ones(ways), -np.ones(steps)])
    balance = csr_array((signs, (np.concatenate([site, of_member]), columns)), shape=(count, ways + steps))
    answer = linprog(
        np.concatenate([problem.rtt_s.ravel(), slopes.ravel()]),
        A_eq=vstack([sent, balance]),
        b_eq=np.concatenate([pool.offered["interactive"], np.zeros(count)]),
        bounds=np.column_stack(
            [np.zeros(ways + steps), np.concatenate([np.full(ways, np.inf), pieces.ravel()])]
        ),
        method="highs",
    )
    return np.bincount(site, answer.x[:ways], count).astype(np.float64)


def run(out: Path, sizes: tuple[int, ...] = SIZES) -> dict[str, Any]:
    """Measure every size in a process of its own and publish `plan-scale.json` in `out`."""
    figures: dict[str, Any] = {}
    for sites in sizes:
        with report.console.status(f"{sites} sites"):
            figures[str(sites)] = _measured("plan_scale", sites) | {
                "agent": _measured("hearing", sites, told="telling")
            }
    report.console.print(_table(figures))
    largest = figures[str(max(sizes))]
    aims = {
        f"{max(sizes)} sites in {AIM_S:g} s": largest["next_s"] <= AIM_S,
        f"{max(sizes)} sites in {AIM_S:g} s, all classes": largest["agent"]["next_s"] <= AIM_S,
        f"{max(sizes)} sites in {AIM_MIB} MiB": largest["agent"]["process_mib"] <= AIM_MIB,
        f"Envoy follows within {AIM_S:g} s": largest["door"]["taken_s"] <= AIM_S,
    }
    document = {
        "benchmark": "plan-scale",
        "headend": metadata.version("headend"),
        "pools": POOLS,
        "sizes": figures,
        "aims": aims,
    }
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "plan-scale.json", (json.dumps(document, indent=1) + "\n").encode())
    _chart(out / "plan-scale.png", figures)
    return document


def _measured(module: str, sites: int, told: str | None = None) -> dict[str, Any]:
    """What a process of its own measures, with one thread as an agent has. `told`: a module whose output it
    reads."""
    with ExitStack() as stack:
        source = None
        if told:
            teller = [sys.executable, "-m", f"loadtests.bench.{told}", str(sites)]
            source = stack.enter_context(subprocess.Popen(teller, stdout=subprocess.PIPE)).stdout
        done = subprocess.run(
            [sys.executable, "-m", f"loadtests.bench.{module}", str(sites)],
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            stdin=source,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=600,
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _table(figures: dict[str, Any]) -> Table:
    table = Table(title=f"the plan, {POOLS} pools", title_justify="left", box=None, pad_edge=False)
    for heading in (
        *("sites", "first s", "next s", "Envoy s", "all classes: first s", "next s", "agent MiB"),
        *("one pool s", "HiGHS s", "loads differ"),
    ):
        table.add_column(heading, justify="right")
    for sites, one in figures.items():
        pair = one.get("linear")
        compared = (
            (f"{pair['own_s']:.3f}", f"{pair['highs_s']:.3f}", f"{pair['load_difference']:.1%}")
            if pair
            else ("–",) * 3
        )
        table.add_row(
            sites,
            f"{one['first_s']:.2f}",
            f"{one['next_s']:.2f}",
            f"{one['door']['taken_s']:.2f}",
            f"{one['agent']['first_s']:.2f}",
            f"{one['agent']['next_s']:.2f}",
            f"{one['agent']['process_mib']:.0f}",
            *compared,
        )
    return table


def _chart(path: Path, figures: dict[str, Any]) -> None:
    """Seconds and MiB by sites, both axes by powers of ten."""
    from loadtests.report import style  # brings matplotlib along, which would count as memory

    sites = [int(each) for each in figures]
    with style.look(style.WIDE.points):
        height = 3.2 + style.head_height("")
        figure = style.new_figure(style.WIDE, height)
        rest = style.titled(figure, f"A plan of {POOLS} pools", height, "")
        seconds, memory = rest.subplots(1, 2)
        for name, label in (("first_s", "from nothing"), ("next_s", "loads changed by 5%")):
            seconds.plot(sites, [one[name] for one in figures.values()], marker="o", label=label)
        agents = [one["agent"] for one in figures.values()]
        seconds.plot(sites, [one["next_s"] for one in agents], marker="o", label="… all classes, in an agent")
        taken = [one["door"]["taken_s"] for one in figures.values()]
        seconds.plot(sites, taken, marker="o", label="until Envoy follows")
        memory.plot(sites, [one["process_mib"] for one in agents], marker="o", label="an agent")
        for axes, title, aim in ((seconds, "seconds", AIM_S), (memory, "MiB", AIM_MIB)):
            axes.axhline(aim, color=style.BAD, linewidth=1, linestyle=(0, (4, 2)), label="aim")
            axes.set(title=title, xlabel="sites", xscale="log", yscale="log")
            axes.legend()
        figure.savefig(path, dpi=160)


def main() -> None:
    """One size, as JSON."""
    sites = int(sys.argv[1])
    found: dict[str, Any] = measure(sites)
    if sites <= LINEAR_UP_TO:
        found["linear"] = linear(sites)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
