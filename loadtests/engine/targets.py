"""What a campaign is run against: front doors, and the fleet behind them where it is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from models.errors import UsageError
from serving.fleet import Fleet, Site
from serving.site.spec import SiteDirectory


@dataclass(frozen=True)
class Targets:
    """Front doors by the name of their site, as `host:port`, or `https://host:port` where they take TLS."""

    doors: Mapping[str, str]
    fleet: Fleet | None = None
    """Known: its sites' Tritons are sampled, and the campaign's events can happen."""

    @classmethod
    def of_fleet(cls, fleet: Fleet, sites: list[str] | None = None) -> Self:
        """All of the fleet's front doors, or those of `sites`. Raises `UsageError` for one it lacks."""
        if unknown := set(sites or ()) - set(fleet.sites):
            raise UsageError(
                f"Fleet {fleet.fleet} has no site `{sorted(unknown)[0]}`.",
                hint=f"Its sites: {', '.join(fleet.sites)}.",
            )
        chosen = fleet.sites if sites is None else sites
        return cls({name: _address(fleet.sites[name]) for name in chosen}, fleet)

    @classmethod
    def of_url(cls, url: str) -> Self:
        """One front door of a fleet that is not known, called by its `host:port`. Raises `UsageError`."""
        parts = urlsplit(url if "//" in url else f"//{url}", scheme="http")
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise UsageError(f"{url} has no port that could be: {error}.") from error
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.path.strip("/")
            or parts.query
        ):
            raise UsageError(
                f"{url} is not a front door's address.",
                hint="Give it as http(s)://HOST:PORT, without a path.",
            )
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        address = f"{host}:{port}" if parts.scheme == "http" else f"https://{host}:{port}"
        return cls({address: address})

    def metrics_ports(self) -> dict[str, int]:
        """Where the Tritons on this machine tell their figures (`GET /metrics`): site to port."""
        if self.fleet is None:
            return {}
        # Not through `status_of`: that weighs every process, and this is asked once a second.
        states = {name: SiteDirectory(self.fleet.fleet, name).read_state() for name in self.fleet.sites}
        return {
            name: part.ports["metrics"]
            for name, state in states.items()
            for part in (state.parts if state else ())
            if "metrics" in part.ports
        }


def _address(site: Site) -> str:
    return site.url if site.tls else site.front_door
