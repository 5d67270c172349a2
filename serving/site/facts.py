"""What a site's agent is told of its pools: how much each takes, and what its capacity record says."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version

from models.bundle import Bundle
from serving.capacity import CapacityRecord
from serving.fleet import Fleet
from serving.router.telemetry.facts import PoolFacts
from serving.router.view import FleetView, Pool
from serving.triton.instances import copies


def of_site(fleet: Fleet, view: FleetView, bundles: Mapping[str, Bundle]) -> dict[str, PoolFacts]:
    """Of every pool that the site answers, by `<kind>.<name>`."""
    site = view.local.name
    record = fleet.capacity_at(site)
    found = {}
    for name in fleet.models_at(site):
        card = bundles[name].card
        found[f"model.{name}"] = PoolFacts(
            version=bundles[name].digest,
            instances=copies(fleet, site, card),
            max_batch=max(1, card.serving.max_batch_size),
            room=view.room_of(Pool("model", name)),
            capacity=recorded(record, name),
        )
    for app in fleet.apps_at(site):
        use = fleet.apps[app]
        found[f"app.{app}"] = PoolFacts(
            version=version("headend"),
            instances=use.replicas * use.concurrency,
            room=use.replicas * (use.concurrency + use.queue),
            capacity=recorded(record, app),
        )
    return found


def recorded(record: CapacityRecord | None, pool: str) -> float | None:
    """Requests/s that the record promises of `pool`, whatever is asked of it: the least of all its works."""
    works = record.pools.get(pool, {}).values() if record else ()
    known = [work.per_second or work.at_least or work.below for work in works]
    return min((each for each in known if each), default=None)
