"""`headend keys`: who may call the fleet's front doors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.table import Table

from models.console import err, out, print_json
from models.errors import UsageError
from serving.fleet import DEFAULT_CLASS, ROLES, Access, Class, Fleet
from serving.identity import ApiKey, KeyStore
from serving.router import envoy
from serving.site.spec import SiteDirectory
from serving.site.status import running_fleet

app = typer.Typer(
    no_args_is_help=True,
    help="API keys of the front doors' callers.\n\n"
    "Only digests are kept, in `$HEADEND_HOME/fleets/FLEET/keys.json`. Front doors on this machine take a "
    "change up at once; for sites elsewhere, copy that file there and run `headend keys apply`.",
)

FleetFile = Annotated[
    Path | None,
    typer.Option("--fleet", "-f", help="The fleet's declaration; by default the fleet that runs here."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to standard output, for scripts.")]


@app.command()
def create(
    tenant: Annotated[str, typer.Argument(help="On whose account the key's requests are.")],
    role: Annotated[
        list[str] | None,
        typer.Option("--role", help="infer: ask apps and models; operate: read statistics. Default: infer."),
    ] = None,
    highest_class: Annotated[
        Class, typer.Option("--class", help="The most urgent class that it may ask for.")
    ] = DEFAULT_CLASS,
    file: FleetFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, and show it this once."""
    fleet = _known(file)
    roles = [each for each in ROLES if each in (role or ["infer"])]
    if unknown := set(role or ()) - set(ROLES):
        raise UsageError(
            f"There is no role {', '.join(sorted(unknown))}.", hint=f"There are: {', '.join(ROLES)}."
        )
    try:
        key, shown = KeyStore(fleet.fleet).create(tenant, roles, highest_class)
    except ValidationError:
        raise UsageError(
            f"`{tenant}` cannot be a tenant's name.", hint="Use a-z, 0-9 and -, 63 characters at most."
        ) from None
    _apply(fleet)
    if as_json:
        print_json(_public(key) | {"key": shown})
        return
    out.print(shown)
    err.print("Keep it: it is not shown again. Send it as `Authorization: Bearer …` or `x-api-key: …`.")


@app.command("list")
def list_keys(file: FleetFile = None, as_json: AsJson = False) -> None:
    """Show what keys there are; their secrets nobody can show."""
    keys = KeyStore(_known(file).fleet).read()
    if as_json:
        return print_json([_public(key) for key in keys])
    table = Table("id", "tenant", "roles", "highest class", "created (UTC)", "revoked", box=None)
    for key in keys:
        revoked = f"{key.revoked:%Y-%m-%d %H:%M}" if key.revoked else ""
        roles = " ".join(key.roles)
        table.add_row(key.id, key.tenant, roles, key.highest_class, f"{key.created:%Y-%m-%d %H:%M}", revoked)
    out.print(table)


@app.command()
def revoke(
    id: Annotated[str, typer.Argument(help="The key's id: what stands between `hk_` and the next `_`.")],
    file: FleetFile = None,
    as_json: AsJson = False,
) -> None:
    """Let a key count no more, from the next request on."""
    fleet = _known(file)
    key = KeyStore(fleet.fleet).revoke(id)
    _apply(fleet)
    if as_json:
        print_json(_public(key))
    else:
        out.print(f"{key.id} of {key.tenant} is revoked.")


@app.command()
def apply(file: FleetFile = None, as_json: AsJson = False) -> None:
    """Let the front doors on this machine take up a key file that was copied here."""
    sites = _apply(_known(file))
    if as_json:
        print_json({"sites": sites})
    else:
        out.print(f"Taken up by: {', '.join(sites) or 'none, as no site of the fleet is here'}.")


def _apply(fleet: Fleet) -> list[str]:
    """Rewrite what the front doors here have of the keys; returns their sites."""
    keys = KeyStore(fleet.fleet).read()
    if not isinstance(fleet.access, Access):
        err.print("The fleet file has no `access:` settings: front doors ask nobody for a key.")
        return []
    here = {site: SiteDirectory(fleet.fleet, site).path / "envoy" for site in fleet.sites}
    taken = [site for site, path in here.items() if (path / "access").is_dir()]
    for site in taken:
        envoy.write_keys(fleet.access, keys, here[site])
    return taken


def _public(key: ApiKey) -> dict[str, object]:
    return key.model_dump(mode="json", exclude={"digest"})


def _known(file: Path | None) -> Fleet:
    return Fleet.load(file) if file else running_fleet()
