"""`headend fleet ca`: the fleet's certificate authority, and the identities of its sites."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from models.console import out, print_json
from models.errors import UsageError
from serving.fleet import Fleet
from serving.identity import Authority, SiteIdentity, spiffe_id
from serving.site.status import running_fleet

app = typer.Typer(help="The fleet's own matters: its certificate authority.", no_args_is_help=True)
ca = typer.Typer(
    no_args_is_help=True,
    help="Certificates by which sites know each other.\n\n"
    "Keep the authority on one machine. Sites on it get their files by themselves; for a site elsewhere, "
    "`issue SITE --to DIRECTORY`, carry the four files there, and put them into "
    "`$HEADEND_HOME/fleets/FLEET/SITE/identity/`. A front door takes up new files while it runs.",
)
app.add_typer(ca, name="ca")

FleetFile = Annotated[
    Path | None,
    typer.Option("--fleet", "-f", help="The fleet's declaration; by default the fleet that runs here."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON to standard output, for scripts.")]
OneSite = Annotated[str, typer.Argument(help="The site.")]

_DONE = {
    "trust": "A new authority is trusted beside the old one.",
    "issue": "The new authority signs; sites on this machine have certificates of it.",
    "finish": "The old authority is not trusted any more.",
}
_NEXT = {
    "trust": "Carry ca.pem and crl.pem to the sites elsewhere; then the next step: headend fleet ca rotate",
    "issue": "Issue certificates to the sites elsewhere; then the last step: headend fleet ca rotate",
    "finish": "Carry ca.pem and crl.pem to the sites elsewhere.",
}


@ca.command()
def make(file: FleetFile = None, as_json: AsJson = False) -> None:
    """Found the fleet's authority. From the next `up`, sites speak to each other over mutual TLS only."""
    fleet = _known(file)
    _show(fleet, Authority.make(fleet.fleet), as_json)


@ca.command()
def issue(
    site: OneSite,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Directory for the files, to be carried; by default the site's own here."),
    ] = None,
    file: FleetFile = None,
    as_json: AsJson = False,
) -> None:
    """Issue a site a new key and certificate; the earlier one stays valid until it expires."""
    fleet = _with_site(file, site)
    identity = SiteIdentity(to) if to else SiteIdentity.of(fleet.fleet, site)
    issued = Authority(fleet.fleet).issue(site, identity)
    if as_json:
        print_json(issued.model_dump(mode="json") | {"directory": str(identity.path)})
    else:
        out.print(f"{site}: {identity.path}, valid until {issued.expires:%Y-%m-%d %H:%M} UTC")


@ca.command()
def rotate(file: FleetFile = None, as_json: AsJson = False) -> None:
    """Do the next of three steps that replace the authority without an interruption."""
    fleet = _known(file)
    authority = Authority(fleet.fleet)
    step = authority.rotate(_here(fleet))
    authority.distribute(list(fleet.sites))
    if as_json:
        print_json({"done": step, "next": authority.register.next_step})
    else:
        out.print(f"{_DONE[step]}\n{_NEXT[step]}")


@ca.command()
def revoke(site: OneSite, file: FleetFile = None, as_json: AsJson = False) -> None:
    """Take a site's certificates back: others refuse it, connections that it has end within a minute."""
    fleet = _known(file)
    authority = Authority(fleet.fleet)
    count = authority.revoke(site)
    authority.distribute(list(fleet.sites))
    if as_json:
        print_json({"site": site, "revoked": count})
    else:
        out.print(
            f"{site}: {count} certificate{'s' * (count != 1)} revoked. "
            f"Sites elsewhere need the new list: {authority.path / 'crl.pem'}"
        )


@ca.command()
def show(file: FleetFile = None, as_json: AsJson = False) -> None:
    """Show the authority, and what it has issued."""
    fleet = _known(file)
    _show(fleet, Authority(fleet.fleet), as_json)


def _show(fleet: Fleet, authority: Authority, as_json: bool) -> None:
    if as_json:
        found = {
            "fleet": fleet.fleet,
            "authorities": [
                {"name": each.subject.rfc4514_string(), "expires": each.not_valid_after_utc.isoformat()}
                for each in authority.authorities
            ],
            **authority.register.model_dump(mode="json"),
        }
        return print_json(found)
    for each in authority.authorities:
        out.print(f"{each.subject.rfc4514_string()}, valid until {each.not_valid_after_utc:%Y-%m-%d}")
    table = Table("site", "identity", "serial", "valid until (UTC)", "revoked", box=None)
    for issued in authority.register.issued:
        revoked = f"{issued.revoked:%Y-%m-%d %H:%M}" if issued.revoked else ""
        name = spiffe_id(fleet.fleet, issued.site)
        table.add_row(issued.site, name, issued.serial[:16], f"{issued.expires:%Y-%m-%d %H:%M}", revoked)
    out.print(table)


def _known(file: Path | None) -> Fleet:
    return Fleet.load(file) if file else running_fleet()


def _with_site(file: Path | None, site: str) -> Fleet:
    fleet = _known(file)
    if site not in fleet.sites:
        raise UsageError(
            f"Fleet {fleet.fleet} has no site `{site}`.", hint=f"Its sites: {', '.join(fleet.sites)}."
        )
    return fleet


def _here(fleet: Fleet) -> list[str]:
    """Sites whose identity is kept on this machine."""
    return [site for site in fleet.sites if SiteIdentity.of(fleet.fleet, site).exists]
