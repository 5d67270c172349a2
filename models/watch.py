"""Shows a build while it runs: one line a step, with a bar where the amount is known."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from models.console import err
from models.steps import Event

_SIGNS = {"done": "[green]done[/green]", "kept": "[dim]kept[/dim]", "failed": "[red]failed[/red]"}


class Watch:
    """A listener for `models.build.build` that draws on standard error; in a log, plain lines."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            console=err,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, visible=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if event.status == "running":
            if not event.detail:
                self._progress.reset(self._task, visible=True)
            self._progress.update(
                self._task,
                description=escape(f"{event.model}  {event.step}  {event.detail}"),
                total=None if event.fraction is None else 1.0,
                completed=event.fraction or 0.0,
            )
            return
        self._progress.update(self._task, visible=False)
        took = f"{event.seconds:6.1f} s" if event.status != "kept" else "        "
        detail = "" if event.status == "failed" else escape(event.detail)
        self._progress.console.print(
            f"{event.model:14} {event.step:9} {_SIGNS[event.status]:4} {took}  {detail}"
        )
