"""`headend apply`, `rollback`, `drain` and `undrain`: changing a fleet without anyone noticing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from models.console import err, out, print_json
from models.errors import HeadendError, UsageError
from serving.cli_options import AnyFleet, AsJson, OneSite, known, sites_of
from serving.fleet import Fleet, Rollout
from serving.site import show
from serving.site.rollout import engine, operator, state
from serving.site.rollout.history import History
from serving.site.rollout.state import RolloutState
from serving.site.rollout.summary import RolloutStatus

OneOf = Annotated[str, typer.Argument(help="The site.")]


def apply(
    file: AnyFleet = None,
    site: OneSite = None,
    canary: Annotated[
        str | None,
        typer.Option(help="Percent of a site's load that the new version answers, step by step: 5,25,50."),
    ] = None,
    no_canary: Annotated[
        bool, typer.Option("--no-canary", help="Change site by site, without trying new versions first.")
    ] = False,
    outputs_may_differ: Annotated[
        bool,
        typer.Option(
            "--outputs-may-differ", help="A retrained model: compare times and errors, not outputs."
        ),
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Try once more what has been rolled back before.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Roll out the declaration and the store's current bundles, step by step, site by site.

    A new version of a model is asked recorded inputs and copies of requests first, then answers a growing
    share; when it is slower, fails or answers otherwise than the old one, everything goes back by itself and
    the exit code is 1. Cut off, it goes on when it is asked again; `headend rollback` goes back.
    """
    if canary and no_canary:
        raise UsageError("--canary and --no-canary exclude each other.")
    fleet = known(file)
    if file is None and (begun := state.under_way(fleet.fleet)):
        fleet = begun.after.fleet
    with _interruptible():
        ended = engine.apply(
            fleet,
            sites_of(fleet, site),
            _rules(fleet, canary),
            err.print,
            canaries=not no_canary,
            may_differ=outputs_may_differ,
            again=again,
        )
    _show(ended, as_json)
    if ended.position.status != "done":
        raise typer.Exit(1)


def rollback(
    file: AnyFleet = None,
    to: Annotated[
        int | None, typer.Option(help="A revision of the history; by default the last other.")
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Only list the revisions that are kept.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Undo the roll-out that is under way, or bring back what was served before, bundles included.

    What is rolled back stays away from `up` and `apply` until the store has something newer.
    """
    fleet = known(file).fleet
    if history:
        _list(History(fleet), as_json)
        return
    with _interruptible():
        ended = engine.rollback(fleet, to, err.print)
    _show(ended, as_json)
    if ended.after.by == "rollback" and ended.position.status != "done":
        raise typer.Exit(1)


def drain(site: OneOf, file: AnyFleet = None, as_json: AsJson = False) -> None:
    """Lead away from a site and wait until it has nothing in flight; its front door stays open.

    Its `/readyz` says no, other front doors stay away, and requests and streams that are there may end within
    the fleet's `rollout.drain_s`. It stays so, restarts included, until `headend undrain`.
    """
    fleet = known(file)
    name = sites_of(fleet, site)[0]
    said = operator.drain(fleet, name, err.print)
    _say({"site": name, "draining": True, "said": said}, f"{name} is drained: {said}", as_json)


def undrain(site: OneOf, file: AnyFleet = None, as_json: AsJson = False) -> None:
    """Let a drained site answer again."""
    fleet = known(file)
    name = sites_of(fleet, site)[0]
    operator.undrain(fleet, name)
    _say({"site": name, "draining": False}, f"{name} answers again.", as_json)


def add_to(app: typer.Typer) -> None:
    """Make these commands of `app`."""
    for command in (apply, rollback, drain, undrain):
        app.command()(command)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C leaves everything as the present step has it."""
    try:
        yield
    except KeyboardInterrupt:
        err.print("Cut off at this step. Go on: headend apply. Go back: headend rollback.")
        raise typer.Exit(130) from None


def _rules(fleet: Fleet, canary: str | None) -> Rollout:
    if canary is None:
        return fleet.rollout
    try:
        steps = [int(step) for step in canary.split(",")]
        return Rollout.model_validate({**fleet.rollout.model_dump(), "steps": steps})
    except ValueError as error:
        raise UsageError(
            f"--canary {canary} is not a rising list of percentages.", hint="For example: --canary 5,25,50"
        ) from error


def _show(ended: RolloutState, as_json: bool) -> None:
    found = RolloutStatus.of(ended, alive=False)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        show.rollout(out, found)


def _list(history: History, as_json: bool) -> None:
    found = [history.read(number) for number in history.numbers()]
    if as_json:
        print_json([each.model_dump(mode="json") for each in found])
        return
    if not found:
        raise HeadendError(f"Fleet {history.fleet} has no history.", hint="Start it: headend up --detach")
    for each in found:
        made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.made))
        bundles = ", ".join(f"{model} {digest[:12]}" for model, digest in each.bundles.items())
        out.print(f"{each.number:4}  {made}  {each.by:8}  {bundles}")


def _say(facts: dict[str, Any], sentence: str, as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        out.print(sentence)
