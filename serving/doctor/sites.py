"""What the fleet's sites need on this machine: addresses, certificates, bundles."""

from __future__ import annotations

from collections.abc import Iterator

from models.store import open_store
from serving.doctor.finding import Check, Finding
from serving.fleet import Fleet
from serving.identity import SiteIdentity
from serving.identity.certificates import is_due, utc_now
from serving.site import door_certificate, ports
from serving.site.spec import SiteDirectory


def _addresses(fleet: Fleet) -> Iterator[Finding]:
    """Free for the sites to listen at."""
    for name, site in fleet.sites.items():
        if SiteDirectory(fleet.fleet, name).supervised():
            yield Finding(f"ports of {name}", "ok", "the site is running")
            continue
        held = [o for address in (site.front_door, site.peer_address) if (o := ports.obstacle(address))]
        yield Finding(
            f"ports of {name}",
            "problem" if held else "ok",
            "; ".join(held) or f"{site.front_door} and {site.peer_address} are free",
            "End it, or write another address into a fleet file." if held else "",
        )


def _certificates(fleet: Fleet) -> Iterator[Finding]:
    """Not expired."""
    for site, declared in fleet.sites.items():
        if declared.tls:
            left = door_certificate.check(site, declared.tls) - utc_now()
            yield Finding(
                f"{site}'s front door",
                "problem" if left.days < 0 else "note" if left.days < 14 else "ok",
                f"shows a certificate for {left.days} more days",
                f"Move a new one to {declared.tls.certificate}." if left.days < 14 else "",
            )
        identity = SiteIdentity.of(fleet.fleet, site)
        if not identity.exists:
            continue
        certificate = identity.read_certificate()
        expires = certificate.not_valid_after_utc
        over, due = expires < utc_now(), is_due(certificate)
        yield Finding(
            f"certificate of {site}",
            "problem" if over else "note" if due else "ok",
            f"{'expired' if over else 'valid until'} {expires:%Y-%m-%d %H:%M} UTC",
            f"Its agent renews it where it runs and reaches the authority's machine; by hand: headend fleet "
            f"ca request {site} --to DIRECTORY"
            if over or due
            else "",
        )


def _bundles(fleet: Fleet) -> Iterator[Finding]:
    """Built."""
    store = open_store(fleet.store)
    missing = [model for model in sorted(fleet.models) if store.current(model) is None]
    yield Finding(
        "bundles",
        "note" if missing else "ok",
        f"not built yet: {', '.join(missing)}" if missing else f"all {len(fleet.models)} are in the store",
        f"headend models build {' '.join(missing)}" if missing else "",
    )


CHECKS: tuple[Check, ...] = (_addresses, _certificates, _bundles)
