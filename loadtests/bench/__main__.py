"""`python -m loadtests.bench`: all benchmarks, or the ones named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from loadtests.bench import (
    balance,
    front_door,
    plan_scale,
    recognizer,
    report,
    simulator,
    small_model,
    speech,
    startup,
    subtitles,
    thin_links,
    unlike_sites,
)
from loadtests.bench.fleet import one_site
from models import sources
from models.catalog_index import load_card
from models.console import run
from models.errors import HeadendError
from models.recipes import CardRecipe
from models.store import open_store

RESULTS = Path(__file__).parent / "results"


class Benchmark(StrEnum):
    """What can be measured."""

    STARTUP = "startup"
    SMALL_MODEL = "small-model"
    SUBTITLES = "subtitles"
    RECOGNIZER = "recognizer"
    SIMULATOR = "simulator"
    FRONT_DOOR = "front-door"
    BALANCE = "balance"
    THIN_LINKS = "thin-links"
    UNLIKE_SITES = "unlike-sites"
    PLAN_SCALE = "plan-scale"


ALONE: dict[Benchmark, Callable[[Path], object]] = {
    Benchmark.SIMULATOR: simulator.run,
    Benchmark.FRONT_DOOR: front_door.run,
    Benchmark.BALANCE: balance.run,
    Benchmark.THIN_LINKS: thin_links.run,
    Benchmark.UNLIKE_SITES: unlike_sites.run,
    Benchmark.PLAN_SCALE: plan_scale.run,
}


def main(
    names: Annotated[list[Benchmark] | None, typer.Argument(help="By default all.")] = None,
    out: Annotated[Path, typer.Option(help="Where results are written.")] = RESULTS,
) -> None:
    """Measure side by side in one run; results are published only where the machine was quiet enough."""
    chosen = set(names or Benchmark)
    card = load_card("whisper-base")
    clips = speech.clips(list(CardRecipe(card).own("clips")()))
    refused: list[str] = []

    @contextmanager
    def benchmark(name: Benchmark) -> Iterator[None]:
        """One that the machine was too busy for does not keep the others from being tried."""
        report.console.rule(name)
        try:
            yield
        except report.BusyMachineError as error:
            report.console.print(f"[yellow]{error}[/]")
            refused.append(name)

    if Benchmark.STARTUP in chosen:
        with benchmark(Benchmark.STARTUP):
            startup.run(clips[0], out)
    if chosen & {Benchmark.SMALL_MODEL, Benchmark.SUBTITLES}:
        with one_site() as site:
            if Benchmark.SMALL_MODEL in chosen:
                with benchmark(Benchmark.SMALL_MODEL):
                    small_model.run(site, open_store().fetch(small_model.MODEL), out)
            if Benchmark.SUBTITLES in chosen:
                with benchmark(Benchmark.SUBTITLES):
                    subtitles.run(site, sources.fetch(card), clips, out)
    if Benchmark.RECOGNIZER in chosen:
        with benchmark(Benchmark.RECOGNIZER):
            recognizer.run(open_store().fetch(card.name), sources.fetch(card), clips, out)
    for name in filter(chosen.__contains__, ALONE):
        with benchmark(name):
            ALONE[name](out)
    if refused:
        raise HeadendError(
            f"not published: {', '.join(refused)}", hint="Run them again when the machine is quiet."
        )


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run(app)
