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
- `slate-like`: see `slate`.

Only `plan` and `waterfall` send on what is too much for a site, `plan` by the room that the model declares;
the others have room without end, as they would have in a plain Envoy. Not here: Envoy's client-side weighted
round robin and load-aware locality, which need ORCA load reports with rates and utilisation in every answer;
Triton sends none of that.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from loadtests.testbed import slate
from loadtests.testbed.bed import Testbed
from loadtests.testbed.scenario import Cell, Policy
from models.files import write_atomic
from serving.fleet import CLASSES
from serving.router import envoy
from serving.router.agent.config import AgentConfig
from serving.router.agent.kept import hold_file
from serving.router.view import FleetView, Pool
from serving.router.xds import socket_address

Shares = Mapping[str, float]
"""By site."""
_ENDLESS = 1_000_000
_SPILLS = 8
"""Waterfall sends on what finds about so many waiting: were it a card's room, most would wait for seconds."""


class Switch:
    """Puts policies in force at all front doors; at the end the agents have their way again."""

    def __init__(self, bed: Testbed) -> None:
        self._bed = bed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hold(False)

    def to(self, policy: Policy, cell: Cell, ingress: Shares) -> None:
        """Put `policy` in force; `ingress`: weights of the front doors where requests come in."""
        self._hold(policy != "plan")
        if policy == "plan":
            return
        for site in self._bed.scenario.sites:
            view = self._view(site, _SPILLS if policy == "waterfall" else _ENDLESS)
            rows = {
                (Pool("model", model), class_): row
                for model in self._bed.scenario.models
                for class_ in CLASSES
                if (row := _row(self._bed, policy, cell, ingress, site, model)) is not None
            }
            out = self._bed.directories[site].path / "envoy"
            envoy.write_shares(replace(view, plan=rows), out)
            if policy == "least-request":
                _as_one(out / "endpoints", view)

    def _hold(self, wanted: bool) -> None:
        for directory in self._bed.directories.values():
            file = hold_file(directory.path)
            if wanted:
                write_atomic(file, b"")
            else:
                file.unlink(missing_ok=True)

    def _view(self, site: str, queue: int) -> FleetView:
        """The site's front door as its agent knows it, but that so many may wait."""
        spec = self._bed.directories[site].read_spec()
        if spec is None:
            raise AssertionError("a running site has a spec")
        agent = next(part for part in spec.parts if part.name == "agent")
        view = AgentConfig.load(Path(agent.argv[-1])).view
        return replace(view, rooms={key: replace(one, queue=queue) for key, one in view.rooms.items()})


def _row(bed: Testbed, policy: Policy, cell: Cell, ingress: Shares, site: str, model: str) -> Shares | None:
    """The shares of one front door; None: local first."""
    scenario = bed.scenario
    match policy:
        case "round-robin":
            return dict.fromkeys(scenario.sites, 1.0)
        case "least-request":
            return {each: float(each != site) for each in scenario.sites}
        case "static":
            return {each: scenario.capacity(each, model) for each in scenario.sites}
        case "slate-like":
            return slate.shares(scenario, cell, ingress, model)[site]
        case _:
            return None


def _as_one(endpoints: Path, view: FleetView) -> None:
    """Make one locality of all sites, this one too: Envoy chooses between endpoints, not localities."""
    for file in endpoints.glob("model.*.json"):
        found = json.loads(file.read_text())
        for assignment in found["resources"]:
            first, *rest = assignment["endpoints"]
            hosts = [host for place in (first, *rest) for host in place["lb_endpoints"]]
            own: dict[str, Any] = copy.deepcopy(hosts[0])
            own["endpoint"]["address"] = socket_address(view.local.peer)
            own["endpoint"]["health_check_config"] = {"port_value": view.local.peer.port}
            own["metadata"]["filter_metadata"]["headend"]["site"] = view.local.name
            assignment["endpoints"] = [{**first, "priority": 0, "lb_endpoints": [*hosts, own]}]
        write_atomic(file, json.dumps(found).encode())
