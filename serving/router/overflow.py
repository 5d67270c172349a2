"""What is too much for the local site goes to another one: Envoy cluster specifiers that count.

A cluster specifier chooses the cluster of each request as it comes. Its script reads how many requests are in
flight here, over both protocols, for clients and for other sites, and leads to the other sites once the
model's room is taken. Two requests that come at the very same moment may both find the last place free: the
room is then exceeded by one.
(https://www.envoyproxy.io/docs/envoy/v1.38.0/configuration/http/cluster_specifier/lua)
"""

from __future__ import annotations

from importlib import resources

from serving.router.clusters import Protocol, cluster_name, protocols
from serving.router.view import FleetView, Pool
from serving.router.xds import Json, extension


def specifiers(view: FleetView) -> list[Json]:
    """Envoy's `ClusterSpecifierPlugin` of every pool that overflows, named like the pool's cluster."""
    return [
        _specifier(view, pool, protocol)
        for pool in view.pools
        if view.overflows(pool)
        for protocol in protocols(pool)
    ]


def _specifier(view: FleetView, pool: Pool, protocol: Protocol) -> Json:
    home = cluster_name(pool, protocol, "fleet")
    counted = [cluster_name(pool, each, scope) for each in protocols(pool) for scope in ("fleet", "local")]
    constants = {
        "home": f'"{home}"',
        "away": f'"{cluster_name(pool, protocol, "elsewhere")}"',
        "counted": "{" + ", ".join(f'"{name}"' for name in counted) + "}",
        "room": str(view.room_of(pool)),
    }
    script = resources.files("serving.router").joinpath("lua/overflow.lua").read_text("utf-8")
    head = "".join(f"local {name} = {value}\n" for name, value in constants.items())
    return {
        "extension": {
            **extension(
                "envoy.router.cluster_specifier_plugin.lua",
                "envoy.extensions.router.cluster_specifiers.lua.v3.LuaConfig",
                source_code={"inline_string": head + script},
                default_cluster=home,
            ),
            "name": home,
        }
    }
