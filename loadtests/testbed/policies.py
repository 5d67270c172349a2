"""The policies that take turns at a testbed's front doors.

`plan` is headend's own: the sites' agents write the shares. For all others the agents hold still, and the
shares are written from here, by the code that the agents use:

- `local-only`: every front door keeps all that it gets;
- `waterfall`: local first, and what finds a line of `_SPILLS` goes to the others (Traffic Director,
  ServiceRouter): what headend's front doors do without a plan, with a room as small as that;
- `round-robin`: the same share for every site;
- `least-request`: Envoy's choice of the less busy of two, across all sites as if they were one (the front
  door's own site is asked through its peer listener, as the others are: a fraction of a millisecond more);
- `static`: shares by capacity, the same at every front door;
- `weighted-round-robin`: Envoy's `client_side_weighted_round_robin` across all sites, in proportion to the
  requests/s that a site reports, over how busy it says that it is;
- `load-aware-locality`: Envoy's `load_aware_locality`, every site a locality of one endpoint: at home while
  that is about as busy as the others, else by what sites have left;
- `slate-like`: see `slate`.

Only `plan` and `waterfall` send on what is too much for a site, `plan` by the room that the model declares;
the others have room without end, as they would have in a plain Envoy. For the two that weigh by load, sites
report it (see `reports`), and what has been reported counts at once: by default Envoy would take 10 s of
each turn (`blackout_period`) for getting to know sites that it knows.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from loadtests.testbed import reports, slate
from loadtests.testbed.bed import Testbed
from loadtests.testbed.scenario import ENVOYS, Cell, Policy, Scenario
from models.files import write_atomic
from serving.fleet import CLASSES
from serving.router import envoy
from serving.router.agent.config import AgentConfig
from serving.router.agent.kept import hold_file
from serving.router.clusters import away_cluster
from serving.router.view import FleetView, Pool
from serving.router.xds import Json, extension, socket_address

Shares = Mapping[str, float]
"""By site."""
_ENDLESS = 1_000_000
_SPILLS = 8
"""Waterfall sends on what finds about so many waiting: were it a card's room, most would wait for seconds."""
_EXTENSIONS = "envoy.extensions.load_balancing_policies"


def _balancer(name: str, message: str, **fields: Any) -> Json:
    """A `LoadBalancingPolicy` of Envoy's."""
    policy = extension(
        f"envoy.load_balancing_policies.{name}", f"{_EXTENSIONS}.{name}.v3.{message}", **fields
    )
    return {"policies": [{"typed_extension_config": policy}]}


_BY_LOAD: Mapping[Policy, Json] = {
    "weighted-round-robin": _balancer(
        "client_side_weighted_round_robin", "ClientSideWeightedRoundRobin", blackout_period="0s"
    ),
    "load-aware-locality": _balancer(
        "load_aware_locality",
        "LoadAwareLocality",
        endpoint_picking_policy=_balancer("round_robin", "RoundRobin"),
    ),
}


class Switch:
    """Puts policies of a cell in force at all front doors; at the end the agents have their way again."""

    def __init__(self, bed: Testbed, cell: Cell) -> None:
        self._bed, self._cell = bed, cell
        self._now: Policy | None = None
        self._reports, self._clusters = ExitStack(), ExitStack()

    def __enter__(self) -> Self:
        if set(self._cell.policies) & set(_BY_LOAD):
            # All the time: a site's first report takes seconds, and what it costs, it costs all policies.
            self._reports.enter_context(reports.told(self._bed))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clusters.close()
        self._reports.close()
        self._hold(False)

    def to(self, policy: Policy, ingress: Shares) -> None:
        """Put `policy` in force; `ingress`: weights of the front doors where requests come in."""
        if policy == self._now and policy != "slate-like":
            return  # Of all others, none depends on the ingress.
        self._now = policy
        self._hold(policy != "plan")
        self._clusters.close()
        if policy == "plan":
            return
        if balancer := _BY_LOAD.get(policy):
            self._weigh(balancer)
        for site in self._bed.scenario.sites:
            view = self._view(site, _SPILLS if policy == "waterfall" else _ENDLESS)
            rows = {
                (Pool("model", model), class_): row
                for model in self._bed.scenario.models
                for class_ in CLASSES
                if (row := _row(self._bed, policy, self._cell, ingress, site, model)) is not None
            }
            out = self._bed.directories[site].path / "envoy"
            envoy.write_shares(replace(view, plan=rows), out)
            if policy in ENVOYS:
                _all_alike(self._bed.scenario, policy, out, view)

    def _hold(self, wanted: bool) -> None:
        for directory in self._bed.directories.values():
            file = hold_file(directory.path)
            if wanted:
                write_atomic(file, b"")
            else:
                file.unlink(missing_ok=True)

    def _weigh(self, balancer: Json) -> None:
        """Until `_clusters` is closed Envoy weighs all sites by what they report of their load."""
        for site, directory in self._bed.directories.items():
            view, file = self._view(site, _ENDLESS), directory.path / "envoy" / envoy.CLUSTERS
            self._clusters.callback(write_atomic, file, file.read_bytes())
            away = {away_cluster(pool, class_) for pool in view.pools for class_ in CLASSES}
            found = json.loads(file.read_bytes())
            for cluster in found["resources"]:
                if cluster["name"] in away:
                    del cluster["lb_policy"], cluster["common_lb_config"]["locality_weighted_lb_config"]
                    cluster["load_balancing_policy"] = balancer
            write_atomic(file, json.dumps(found).encode())

    def _view(self, site: str, queue: int) -> FleetView:
        """The site's front door as its agent knows it, but that so many may wait."""
        view = AgentConfig.load(reports.agent_config(self._bed, site)).view
        return replace(view, rooms={key: replace(one, queue=queue) for key, one in view.rooms.items()})


def _row(bed: Testbed, policy: Policy, cell: Cell, ingress: Shares, site: str, model: str) -> Shares | None:
    """The shares of one front door; None: local first."""
    scenario = bed.scenario
    match policy:
        case "round-robin":
            return dict.fromkeys(scenario.sites, 1.0)
        case _ if policy in ENVOYS:
            return {each: float(each != site) for each in scenario.sites}
        case "static":
            return {each: scenario.capacity(each, model) for each in scenario.sites}
        case "slate-like":
            return slate.shares(scenario, cell, ingress, model)[site]
        case _:
            return None


def _all_alike(scenario: Scenario, policy: Policy, out: Path, view: FleetView) -> None:
    """Let Envoy choose between all sites, this one too: as endpoints of one locality, or each in its own."""
    for model, class_ in product(scenario.models, CLASSES):
        file = out / "endpoints" / f"{away_cluster(Pool('model', model), class_)}.json"
        found = json.loads(file.read_bytes())
        (assignment,) = found["resources"]
        hosts = [host for place in assignment["endpoints"] for host in place["lb_endpoints"]]
        own: dict[str, Any] = copy.deepcopy(hosts[0])
        own["endpoint"]["address"] = socket_address(view.local.peer)
        own["endpoint"]["health_check_config"] = {"port_value": view.local.peer.port}
        own["metadata"]["filter_metadata"]["headend"]["site"] = view.local.name
        hosts = [*hosts, own]
        if policy == "weighted-round-robin":
            # What it begins with, until sites have told: that it knows them, as one that runs for long does.
            for host in hosts:
                host["load_balancing_weight"] = max(1, round(scenario.capacity(_site(host), model) * 10))
        together = [{**assignment["endpoints"][0], "priority": 0, "lb_endpoints": hosts}]
        apart = policy == "load-aware-locality"
        assignment["endpoints"] = list(map(_place, hosts)) if apart else together
        write_atomic(file, json.dumps(found).encode())


def _place(host: Json) -> Json:
    """A locality of one endpoint."""
    zone = {"zone": _site(host)}
    return {"locality": zone, "load_balancing_weight": 1, "priority": 0, "lb_endpoints": [host]}


def _site(host: Json) -> str:
    """Where an endpoint is."""
    site: str = host["metadata"]["filter_metadata"]["headend"]["site"]
    return site
