"""From what a search found to what a site's capacity record says."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from loadtests.capacity.loads import Load
from loadtests.capacity.steps import LoadStep
from loadtests.knee import CONFIDENCE, Knee
from models.files import canonical_json, digest
from models.store import open_store
from serving.capacity import CapacityRecord, Measurement, MixCapacity, Objective, WorkCapacity
from serving.fleet import Fleet

DIGITS = 4
"""Significant ones, of rates: more would look like knowledge."""


def record_of(
    site: str, load: Load, knee: Knee[LoadStep], step_s: float, fleet: Fleet | None, *, is_here: bool
) -> CapacityRecord | None:
    """What `knee` adds to the record of `site`; None when neither side of it is known.

    `is_here`: the site runs on this machine, whose hardware the steps know.
    """
    if knee.at_least is None and knee.below is None:
        return None
    near = nearest(knee)
    figures: dict[str, Any] = {
        "per_second": _rounded(knee.rate),
        "at_least": _rounded(knee.at_least),
        "below": _rounded(knee.below),
        "confidence": CONFIDENCE,
        "concurrency": _rounded(near.concurrency) if near else None,
        "p50_ms": _rounded(near.p50_ms) if near else None,
        "p99_ms": _rounded(near.p99_ms) if near else None,
        "measured": _measurement(site, load, knee, step_s, fleet, is_here),
    }
    if load.is_mix:
        shares = {name: round(share, DIGITS) for name, share in load.shares.items()}
        return CapacityRecord(site=site, mixes={load.name: MixCapacity(**figures, shares=shares)})
    work = load.works[0]
    found = WorkCapacity(**figures, client=work.client, input=work.input, batch=work.batch)
    return CapacityRecord(site=site, pools={work.pool: {load.name: found}})


def nearest(knee: Knee[LoadStep]) -> LoadStep | None:
    """The step with the highest load that held, of those below the upper end of the knee's interval."""
    top = float("inf") if knee.below is None else knee.below
    held = [step for step in knee.steps if step.outcome == "held" and step.rate <= top]
    return max(held, key=lambda step: step.rate, default=None)


def _measurement(
    site: str, load: Load, knee: Knee[LoadStep], step_s: float, fleet: Fleet | None, is_here: bool
) -> Measurement:
    judged = next(step.judged for step in knee.steps if step.outcome != "unknown")
    return Measurement(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        headend=version("headend"),
        hardware=knee.steps[0].hardware if is_here else None,
        bundles=_bundles(site, load, fleet) if fleet else {},
        campaign=load.declared.campaign,
        campaign_digest=digest(canonical_json(load.declared.model_dump(mode="json", by_alias=True))),
        step_s=step_s,
        steps=len(knee.steps),
        ended=knee.ended,
        objectives=[Objective(name=each.objective, limit=each.limit, unit=each.unit) for each in judged],
    )


def _bundles(site: str, load: Load, fleet: Fleet) -> dict[str, str]:
    """The store's current bundles: of the models asked, and of all at the site where an app is, since it may
    call any of them.
    """
    store, asked = open_store(fleet.store), {work.model for work in load.works}
    models = [name for name in fleet.models_at(site) if name in asked or None in asked]
    found = {name: store.current(name) for name in models}
    return {name: bundle for name, bundle in found.items() if bundle}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")
