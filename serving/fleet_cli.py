"""`headend fleet ca`: the fleet's certificate authority, and the identities of its sites."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from models.console import out, print_json
from models.errors import UsageError
from models.files import write_atomic
from serving.fleet import Fleet
from serving.identity import Authority, SiteIdentity, requests, spiffe_id
from serving.site.status import running_fleet

app = typer.Typer(help="The fleet's own matters: its certificate authority.", no_args_is_help=True)
ca = typer.Typer(
    no_args_is_help=True,
    help="Certificates by which sites know each other.\n\n"
    "Keep the authority on one machine. Sites on it get their files by themselves. A site elsewhere asks: "
    "`request` there, `issue` here, `accept` there. Its key never leaves it, and its agent fetches later "
    "certificates by itself. A front door takes up new files while it runs.",
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
    "issue": "When the sites elsewhere have certificates of it (their agents ask in time, or `request`), "
    "the last step: headend fleet ca rotate",
    "finish": "Carry ca.pem and crl.pem to the sites elsewhere.",
}


@ca.command()
def make(file: FleetFile = None, as_json: AsJson = False) -> None:
    """Found the fleet's authority. From the next `up`, sites speak to each other over mutual TLS only."""
    fleet = _known(file)
    _show(fleet, Authority.make(fleet.fleet), as_json)


@ca.command()
def request(
    site: OneSite,
    to: Annotated[Path, typer.Option("--to", help="Directory for the request, to be carried.")],
    file: FleetFile = None,
    as_json: AsJson = False,
) -> None:
    """On the machine of a site elsewhere: make a key, and a request for its certificate.

    Asking once more, before the answer is accepted, makes the same request.
    """
    fleet = _with_site(file, site)
    made = requests.make(fleet.fleet, site, SiteIdentity.of(fleet.fleet, site))
    path = to / f"{site}.csr"
    to.mkdir(parents=True, exist_ok=True)
    write_atomic(path, made)
    if as_json:
        print_json({"site": site, "request": str(path)})
    else:
        out.print(f"{path}\nWhere the authority is: headend fleet ca issue {site} --request {path} --to {to}")


@ca.command()
def issue(
    site: OneSite,
    asked: Annotated[
        Path | None,
        typer.Option("--request", help="The request of a site elsewhere.", exists=True, dir_okay=False),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="With `--request`: directory for the answer, to be carried.")
    ] = None,
    file: FleetFile = None,
    as_json: AsJson = False,
) -> None:
    """Issue a site a certificate; the earlier one stays valid until it expires."""
    fleet = _with_site(file, site)
    if (asked is None) is not (to is None):
        raise UsageError(
            "`--request` and `--to` go together: a key is made where it is used.",
            hint=f"On the machine of {site}: headend fleet ca request {site} --to DIRECTORY",
        )
    authority = Authority(fleet.fleet)
    if asked and to:
        requests.answer(authority, site, asked.read_bytes(), to)
        directory, todo = to, f"\nOn the machine of {site}: headend fleet ca accept {site} {to}"
    else:
        identity = SiteIdentity.of(fleet.fleet, site)
        authority.issue(site, identity)
        directory, todo = identity.path, ""
    issued = authority.register.of(site)[-1]
    if as_json:
        print_json(issued.model_dump(mode="json", exclude={"certificate"}) | {"directory": str(directory)})
    else:
        out.print(f"{site}: {directory}, valid until {issued.expires:%Y-%m-%d %H:%M} UTC{todo}")


@ca.command()
def accept(
    site: OneSite,
    answer: Annotated[
        Path, typer.Argument(help="The directory that `issue` wrote.", exists=True, file_okay=False)
    ],
    file: FleetFile = None,
    as_json: AsJson = False,
) -> None:
    """On the machine of a site elsewhere: take the certificate that it has requested."""
    fleet = _with_site(file, site)
    identity = SiteIdentity.of(fleet.fleet, site)
    requests.accept(fleet.fleet, site, identity, answer)
    expires = identity.read_certificate().not_valid_after_utc
    if as_json:
        print_json({"site": site, "expires": expires.isoformat(), "directory": str(identity.path)})
    else:
        out.print(f"{site}: {identity.path}, valid until {expires:%Y-%m-%d %H:%M} UTC")


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
            **authority.register.model_dump(mode="json", exclude={"issued": {"__all__": {"certificate"}}}),
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
