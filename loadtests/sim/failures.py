"""A campaign's events in the simulated fleet: parts that are killed, sites that go and come."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from loadtests.campaign import Event
from loadtests.results import Happened
from loadtests.sim.server import Server
from loadtests.sim.topology import PART_OF
from models.errors import UsageError

if TYPE_CHECKING:
    from loadtests.sim.simulation import Simulation

Part = Literal["site", "triton", "serve", "envoy", "agent"]
_WHOLE: frozenset[Part] = frozenset(("site", "envoy"))
"""Parts whose end takes everything at the site along, as nobody can knock any more."""
FAILED_PROBES = 2
"""Failed probes that take a site out; one that passes takes it in."""


class Failures:
    """Makes the campaign's events happen. Raises `UsageError` when one names a site that is not there.

    What is killed or cut is gone at once, with all that it worked on; doors notice by failed attempts and by
    probes.
    """

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self._down: defaultdict[int, set[Part]] = defaultdict(set)
        self._ends: Counter[tuple[int, Part]] = Counter()
        self.happened: list[Happened] = []
        for event in sim.campaign.events:
            if event.site not in sim.names:
                raise UsageError(
                    f"the campaign would {event.do} site `{event.site}`, which topology "
                    f"`{sim.topology.topology}` does not have",
                    hint=f"Its sites: {', '.join(sim.names)}.",
                )
            sim.at(event.at_s, self._happen, event)

    def _happen(self, event: Event) -> None:
        site, took = self._sim.names.index(event.site), 0.0
        if event.do == "restore":
            took = self._return(site, "site")
        else:
            part: Part = event.part or "site"
            self._end(site, part)
            if event.do == "kill":
                took = self._return(site, part)
        words = " ".join(filter(None, (event.do, event.site, event.part)))
        self.happened.append(Happened(at_s=event.at_s, do=words, took_s=took))

    def _end(self, site: int, part: Part) -> None:
        self._down[site].add(part)
        self._ends[site, part] += 1
        if part in _WHOLE:
            door = self._sim.doors[site]
            # Before what it had asked for fails, so that nothing of it is asked again.
            door.up, door.epoch, door.down_at = False, door.epoch + 1, self._sim.now
        for server in self._servers(site, part):
            server.crash()
            self._spread(server, FAILED_PROBES)

    def _return(self, site: int, part: Part) -> float:
        took = self._sim.topology.failures.back_s(part)
        self._sim.at(self._sim.now + took, self._back, (site, part, self._ends[site, part]))
        return took

    def _back(self, what: tuple[int, Part, int]) -> None:
        site, part, end = what
        if end != self._ends[site, part]:
            return
        down = self._down[site]
        down.discard(part)
        if part == "site":
            down.clear()
        self._sim.doors[site].up = not down & _WHOLE
        for server in self._servers(site, part):
            if not down & {*_WHOLE, PART_OF[self._sim.topology.pools[server.pool].kind]}:
                server.up = True
                self._spread(server, 1)

    def _servers(self, site: int, part: Part) -> Sequence[Server]:
        """What is gone with `part`: behind a dead front door, everything."""
        pools = self._sim.topology.pools
        return [
            servers[site]
            for pool, servers in self._sim.servers.items()
            if site in servers and part in {*_WHOLE, PART_OF[pools[pool].kind]}
        ]

    def _spread(self, server: Server, probes: int) -> None:
        """Every door's probes come at moments of their own; `probes` of them tell it."""
        wait, sim = self._sim.topology.failures.probe_s, self._sim
        for view in sim.views[server.pool].values():
            due = sim.now + (probes - sim.random.random()) * wait
            sim.at(due, view.learn, (server.site, server.up))
