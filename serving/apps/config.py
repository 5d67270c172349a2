"""What the Ray Serve part of a site is told: one small JSON file, derived from the fleet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field

from models.schema import Declaration
from serving.fleet import AppName, AppUse, Fleet, HostPort, Limits, Tracing


class AppConfig(AppUse):
    """One app at this site."""

    port: int
    """Its replicas listen here on the loopback interface; the front door leads straight to them."""


class AppsConfig(Declaration):
    """The whole part."""

    site: str
    port: int
    """The part's own: `/-/ready` answers 200 when every app does, `/-/alive` while no restart is needed."""
    run_dir: Path
    """Private to the part: the cluster's token."""
    front_door: HostPort
    """Where apps call models."""
    store: str | None = None
    """The fleet's bundle store: apps take files beside the graphs (labels) from there."""
    models: list[str] = []
    """Cards served in the fleet, for `GET /v1/models`."""
    limits: Limits = Limits()
    tracing: Tracing | None = None
    patience_s: float = Field(default=180, gt=0)
    """When an app has not answered for so long, Serve will not bring it back: the part ends, to be started
    anew."""
    apps: dict[AppName, AppConfig]

    @classmethod
    def of(
        cls,
        fleet: Fleet,
        site: str,
        *,
        run_dir: Path,
        port: int,
        app_ports: Mapping[AppName, int],
        front_door: str | None = None,
    ) -> Self:
        """The config of `site`, which runs its apps on `app_ports`; `front_door`: where they call models, by
        default where everybody does.
        """
        return cls(
            site=site,
            port=port,
            run_dir=run_dir,
            front_door=front_door or fleet.sites[site].front_door,
            store=fleet.store,
            models=sorted(fleet.models),
            limits=fleet.limits,
            tracing=fleet.tracing,
            apps={
                app: AppConfig(**fleet.apps[app].model_dump(), port=app_ports[app])
                for app in fleet.apps_at(site)
            },
        )
