"""Whether a site would be open to whoever can reach it, without anybody having said so."""

from __future__ import annotations

from collections.abc import Iterator

from serving.fleet import Fleet, is_loopback
from serving.site.derive import has_identity

HINT = (
    "Say in the fleet file who may call (`access: {}`: holders of a key, see `headend keys create`) and give "
    "the sites certificates (`headend fleet ca make`); or, in a network that you trust, `access: open`."
)


def exposed(fleet: Fleet, site: str) -> Iterator[str]:
    """In words, each address of `site` that others can reach and where nobody would be asked who they are."""
    if fleet.access == "open":
        return
    declared = fleet.sites[site]
    if fleet.access is None and not is_loopback(_host(declared.front_door)):
        yield (
            f"site {site}: its front door, {declared.front_door}, can be reached from elsewhere, and the "
            "fleet file does not say who may call"
        )
    if not is_loopback(_host(declared.peer_address)) and not has_identity(fleet, site):
        yield (
            f"site {site}: its listener for other sites, {declared.peer_address}, can be reached from "
            "elsewhere, and the site has no certificate to tell other sites by"
        )


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")
