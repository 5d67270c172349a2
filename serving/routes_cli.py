"""`headend routes`: how the front doors share load now, and why."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Annotated

import httpx
import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from models.console import out, print_json
from models.errors import HeadendError, UsageError
from serving.cli_options import AnyFleet, AsJson, known
from serving.fleet import CLASSES, Fleet
from serving.router.agent.routes_view import Routes, SiteSeen
from serving.site.spec import SiteDirectory

app = typer.Typer(help="Show how front doors share their load, and why.", no_args_is_help=False)

_TIMEOUT_S = 10.0


@app.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    file: AnyFleet = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every second; Ctrl-C ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the share of each front door's load that each site gets, by pool and class, and what sites say.

    Asks the agents of the fleet's sites on this machine.
    """
    if context.invoked_subcommand is not None:
        return
    fleet = known(file)
    if as_json:
        print_json({routes.site: routes.model_dump(mode="json") for routes in _all(fleet)})
    elif watch:
        _watch(fleet)
    else:
        out.print(_tables(list(_all(fleet))))


@app.command()
def explain(
    pool: Annotated[str, typer.Argument(help="A model or app: `whisper-base`, `app.review`.")],
    door: Annotated[
        str | None, typer.Option("--from", help="The front door; by default the first site here.")
    ] = None,
    file: AnyFleet = None,
    as_json: AsJson = False,
) -> None:
    """Say in words why a front door's load of a pool is shared as it is."""
    fleet = known(file)
    ports = _agents(fleet)
    site = door if door in ports else next(iter(ports))
    answer = json.loads(_get(site, ports[site], "/-/routes/explain", {"pool": pool, "door": door or site}))
    if as_json:
        print_json(answer)
        return
    out.print(f"[bold]{answer['pool']}[/] from [bold]{answer['door']}[/]")
    for sentence in answer["sentences"]:
        out.print(Text(f"  {sentence}"))


def _watch(fleet: Fleet) -> None:
    with Live(console=out, auto_refresh=False) as live:
        try:
            while True:
                live.update(_tables(list(_all(fleet))), refresh=True)
                time.sleep(1)
        except KeyboardInterrupt:
            return


def _agents(fleet: Fleet) -> dict[str, int]:
    """Ports of the agents that should run here, by site. Raises `HeadendError` when there is none."""
    found = {}
    for site in fleet.sites:
        state = SiteDirectory(fleet.fleet, site).read_state()
        parts = {part.name: part for part in state.parts} if state and state.supervisor else {}
        if agent := parts.get("agent"):
            found[site] = agent.ports["http"]
    if not found:
        raise HeadendError(f"No site of fleet {fleet.fleet} runs here.", hint="Start it: headend up")
    return found


def _all(fleet: Fleet) -> Iterator[Routes]:
    for site, port in _agents(fleet).items():
        yield Routes.model_validate_json(_get(site, port, "/-/routes", {}))


def _get(site: str, port: int, path: str, params: Mapping[str, str]) -> bytes:
    try:
        response = httpx.get(
            f"http://127.0.0.1:{port}{path}", params=params, timeout=_TIMEOUT_S, trust_env=False
        )
    except httpx.HTTPError as error:
        raise HeadendError(
            f"The agent of site {site} does not answer: {error}", hint=f"See: headend logs {site} agent"
        ) from error
    if response.status_code == httpx.codes.NOT_FOUND:
        refusal = response.json()
        raise UsageError(refusal["error"], hint=refusal["hint"])
    return response.content


def _tables(doors: list[Routes]) -> Group:
    return Group(_shares(doors), "", *(_sites(door) for door in doors))


def _shares(doors: list[Routes]) -> Table:
    table = _table("front door", "pool", "class", "requests/s", "goes to")
    for door in doors:
        own = door.sites[door.site].pools
        for pool, classes in door.shares.items():
            for class_ in (each for each in CLASSES if each in classes):
                offered = own[pool].offered.get(class_, 0.0) if pool in own else 0.0
                split = sorted(classes[class_].items(), key=lambda item: -item[1])
                goes = ", ".join(f"{site} {share:.1%}" for site, share in split if share >= 0.0005)
                table.add_row(door.site, pool, class_, f"{offered:.1f}" if offered else "", goes)
    return table


def _sites(door: Routes) -> Table:
    headings = ("pool", "ready", "answers/s", "at most", "in flight", "wait", "work")
    table = _table(f"as {door.site} knows", "age", "way", *headings)
    for name, site in door.sites.items():
        first = (name, _age(site), _way(site))
        for key, pool in site.pools.items():
            table.add_row(
                *first,
                key,
                "[green]yes[/]" if pool.ready else "[red]no[/]",
                f"{pool.answered:.1f}",
                "" if pool.capacity is None else f"{pool.capacity:.1f}",
                f"{pool.in_flight:.1f}",
                _ms(pool.queue_ms),
                _ms(pool.service_ms),
            )
            first = ("", "", "")
        if not site.pools:
            table.add_row(*first)
    return table


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading)
    return table


def _age(site: SiteSeen) -> str:
    if not site.heard:
        return "[red]never heard of[/]"
    return f"[yellow]{site.age_s:.0f} s, stale[/]" if site.stale else f"{site.age_s:.1f} s"


def _way(site: SiteSeen) -> str:
    speed = f", {site.mbit_s:.0f} Mbit/s" if site.mbit_s else ""
    return "" if site.rtt_ms is None else f"{site.rtt_ms:.1f} ms{speed}"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} ms"
