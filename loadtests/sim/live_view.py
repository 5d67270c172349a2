"""The simulated fleet as the live routers see a fleet: what their policy code takes."""

from __future__ import annotations

from collections.abc import Mapping

from loadtests.sim.topology import Topology
from serving.fleet import Limits
from serving.router.view import LOOPBACK, Address, FleetView, LocalPorts, Pool, Room, SiteView

_NOWHERE = Address(LOOPBACK, 1)
"""Nothing is ever sent there."""


def site_views(topology: Topology) -> dict[str, SiteView]:
    """Every site as others see it, by name."""
    return {name: _site_view(topology, name) for name in sorted(topology.sites)}


def fleet_view(topology: Topology, sites: Mapping[str, SiteView], site: str) -> FleetView:
    """The view of `site`'s front door, as a site derives it from its fleet file and cards."""
    return FleetView(
        fleet=topology.topology,
        local=sites[site],
        others=tuple(view for name, view in sites.items() if name != site),
        ports=LocalPorts(triton_http=1, triton_grpc=1, apps=dict.fromkeys(sites[site].apps, 1), admin=1),
        limits=Limits(concurrency=topology.concurrency),
        rooms={Pool("model", name).key: Room(topology.at(site, name).room) for name in sites[site].models},
    )


def _site_view(topology: Topology, name: str) -> SiteView:
    served = [pool for pool in topology.pools if topology.serves(name, pool)]
    return SiteView(
        name=name,
        front_door=_NOWHERE,
        peer=_NOWHERE,
        models=tuple(sorted(pool for pool in served if topology.pools[pool].kind == "model")),
        apps=tuple(sorted(pool for pool in served if topology.pools[pool].kind == "app")),
    )
