"""Topologies measured from real runs: how long the fleet's parts take, as the clients and Tritons saw it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from loadtests.campaign import Work
from loadtests.histogram import Histogram
from loadtests.results import Result, Series
from loadtests.sim.times import Constant, Measured, Times
from loadtests.sim.topology import Machine, Network, SimulatedPool, SimulatedSite, Topology
from models.catalog_index import load_card
from models.errors import UsageError
from serving.fleet import Fleet
from serving.triton.instances import copies

STEPS = 200
"""Quantiles of a measured distribution, beside the least."""
LEAST_SHARE = 0.1
"""No execution is taken to last less than this share of the mean one: what Triton says is a mean only."""
MACHINE = "shared"


def measured(
    runs: Sequence[Result], *, cores: float | None = None, busy: Mapping[str, float] | None = None
) -> Topology:
    """The topology of the fleet that `runs` were made with, with the times seen in them.

    Use runs at low load, where requests seldom wait for each other: a wait that the client saw is taken for
    service, but for the mean wait that Triton reports, which is taken off. Of a model, Triton's compute time
    is what an instance is kept busy, the rest overhead that keeps nobody waiting; an app's slot is taken all
    the time. Where Triton was seen to batch, times of larger batches follow from a straight line through its
    samples. A round trip is estimated from requests that another site answered.

    Args:
        runs: each answered some of the pools; the first one's fleet and sites count.
        cores: where all sites share one machine, how many it has.
        busy: then, cores that an execution keeps busy, by pool; 1 where nothing is said.

    Raises `UsageError` without runs, when the fleet is not known or not real, or when nothing was answered.
    """
    declared = runs[0].fleet if runs else None
    if declared is None:
        raise UsageError(
            "a topology can be measured only from a run whose fleet is known",
            hint="Run the campaign with --fleet, or write the topology by hand.",
        )
    try:
        fleet = Fleet.model_validate(declared)
    except ValidationError as error:
        raise UsageError(
            f"run `{runs[0].run}` tells nothing of a real fleet: it is of {runs[0].hardware}",
            hint="Take a run against a live fleet.",
        ) from error
    asked = dict.fromkeys(work.pool for run in runs for work in run.campaign.workload)
    pools = {pool: found for pool in asked if (found := _pool(fleet, runs, pool, (busy or {}).get(pool, 1)))}
    if not pools:
        raise UsageError("nothing was answered rightly in these runs, so no time can be taken from them")
    served = {name: [*fleet.models_at(name), *fleet.apps_at(name)] for name in fleet.sites}
    return Topology(
        topology=fleet.fleet,
        pools=pools,
        machines={MACHINE: Machine(cores=cores)} if cores else {},
        sites={
            name: SimulatedSite(
                pools=[pool for pool in pools if pool in served[name]], machine=MACHINE if cores else None
            )
            for name in fleet.sites
        },
        network=Network(rtt_ms=_round_trip_ms(runs)),
        concurrency=fleet.limits.concurrency,
    )


def _pool(fleet: Fleet, runs: Sequence[Result], pool: str, cores: float) -> SimulatedPool | None:
    """`pool` as it is declared and was seen; None where nothing was."""
    is_model = pool in fleet.models
    server = _server(runs, pool) if is_model else _Server()
    seen = _seen(runs, pool, lambda _: True)
    if not seen:
        return None
    overhead = max(0.0, _mean(seen) - server.queue_ms - server.compute_ms) if server.compute_ms else 0.0
    sent = {work.input for run in runs for work in run.campaign.workload if work.pool == pool}
    inputs = {name: _seen(runs, pool, partial(_sends, name)) for name in sorted(sent)}
    off = overhead + server.queue_ms

    def times(by_rows: Mapping[int, Histogram]) -> dict[int, Times]:
        return {rows: _times(histogram, off) for rows, histogram in by_rows.items()}

    common = {
        "service": _with_batches(times(seen), server.by_batch),
        "inputs": {name: times(each) for name, each in inputs.items() if each} if len(sent) > 1 else {},
        "overhead": Constant(kind="constant", mean_ms=overhead) if overhead else None,
        "cores": cores,
    }
    return SimulatedPool.model_validate({**_declared(fleet, pool), **common})


def _declared(fleet: Fleet, pool: str) -> dict[str, object]:
    """What fleet and card say of a pool."""
    for name, app in fleet.apps.items():
        if name == pool:
            at_a_time, waiting = app.replicas * app.concurrency, app.replicas * app.queue
            return {"kind": "app", "instances": at_a_time, "waiting": waiting}
    card = load_card(pool)
    serving = card.serving
    site = next(name for name in fleet.sites if pool in fleet.models_at(name))
    return {
        "kind": "model",
        "instances": copies(fleet, site, card),
        "max_batch": max(1, serving.max_batch_size),
        "queue_delay_ms": serving.queue_delay_us / 1e3 if serving.max_batch_size else 0,
        "waiting": serving.max_queue,
    }


class _Server(NamedTuple):
    """What the Tritons say of a model, on average over requests; nothing where they were not asked."""

    compute_ms: float | None = None
    queue_ms: float = 0
    by_batch: dict[int, float] = {}
    """Mean compute time of single requests and of the largest batches seen; empty without batches."""


def _server(runs: Iterable[Result], model: str) -> _Server:
    samples = [sample for run in runs for sample in run.server if sample.model == model and sample.batch]
    requests = np.array([sample.per_second for sample in samples])
    if not requests.sum():
        return _Server()
    batch, compute, queue = np.array([[each.batch, each.compute_ms, each.queue_ms] for each in samples]).T
    by_batch = {}
    if (largest := round(batch.max())) >= 2:
        slope, base = np.polyfit(batch, compute, 1, w=np.sqrt(requests / batch))
        if slope >= 0 and base + slope > 0:
            by_batch = {size: float(base + slope * size) for size in (1, largest)}
    return _Server(
        float(np.average(compute, weights=requests)), float(np.average(queue, weights=requests)), by_batch
    )


def _with_batches(service: dict[int, Times], by_batch: Mapping[int, float]) -> dict[int, Times]:
    """The measured shape at the sizes that the server's figures tell of, where requests are of one row."""
    shape = service.get(1)
    if not (by_batch and list(service) == [1] and isinstance(shape, Measured) and shape.mean_ms):
        return service
    return {
        size: Measured(
            kind="measured", quantiles_ms=[mean / shape.mean_ms * each for each in shape.quantiles_ms]
        )
        for size, mean in by_batch.items()
    }


def _seen(
    runs: Iterable[Result], pool: str, where: Callable[[Work], bool], *, here: bool = True
) -> dict[int, Histogram]:
    """Service times that clients saw, by rows; `here`: answered by the door's own site, else by others."""
    found: dict[int, Histogram] = {}
    for run in runs:
        works = {work.name: work for work in run.campaign.workload if work.pool == pool and where(work)}
        for series in run.series:
            if series.work in works and series.right and _is_here(series) == here:
                rows = works[series.work].batch
                found.setdefault(rows, Histogram()).add(Histogram.decode(series.service))
    return found


def _sends(name: str, work: Work) -> bool:
    return work.input == name


def _is(name: str, work: Work) -> bool:
    return work.name == name


def _is_here(series: Series) -> bool:
    return series.site == series.door


def _mean(seen: Mapping[int, Histogram]) -> float:
    """Mean of all requests, milliseconds."""
    return Histogram.sum(seen.values()).mean_ms


def _times(histogram: Histogram, off_ms: float) -> Measured:
    quantiles = np.array([histogram.percentile_ms(percent) for percent in np.linspace(0, 100, STEPS + 1)])
    least = LEAST_SHARE * max(0.0, histogram.mean_ms - off_ms)
    return Measured(kind="measured", quantiles_ms=np.maximum(quantiles - off_ms, least).round(4).tolist())


def _round_trip_ms(runs: Sequence[Result]) -> float:
    """What the median takes longer from elsewhere; 0 where nothing came from there.

    The mean over all works, each weighted by how sharply its own figure is known.
    """
    longer, weights = [], []
    for work in {work.name: work for run in runs for work in run.campaign.workload}.values():
        near, far = (
            Histogram.sum(_seen(runs, work.pool, partial(_is, work.name), here=here).values())
            for here in (True, False)
        )
        if near.count and far.count:
            spread = max(0.001, near.percentile_ms(75) - near.percentile_ms(25))
            longer.append(far.percentile_ms(50) - near.percentile_ms(50))
            weights.append(min(near.count, far.count) / spread**2)
    return max(0.0, float(np.average(longer, weights=weights))) if longer else 0.0
