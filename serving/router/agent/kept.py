"""The last plan of a front door, kept over restarts: of the agent, and of what derives Envoy's files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from models.files import write_atomic
from models.schema import Strict
from serving.fleet import Class
from serving.router.telemetry.summary import Number, PoolKey
from serving.router.view import Kind, Pool

Rows = Mapping[tuple[Pool, Class], Mapping[str, float]]
"""`FleetView.plan`: for a pool and class, the share of each site."""


class _Kept(Strict):
    format: int = 1
    shares: dict[PoolKey, dict[Class, dict[str, Number]]]


def read(site: Path) -> Rows:
    """The plan of the site whose directory is `site`; empty when there is none that can be read."""
    try:
        kept = _Kept.model_validate_json(_path(site).read_bytes())
    except (FileNotFoundError, ValidationError):
        return {}
    return {
        (pool_of(key), class_): shares
        for key, classes in kept.shares.items()
        for class_, shares in classes.items()
    }


def write(site: Path, rows: Rows) -> None:
    """Replace it."""
    kept: dict[str, dict[Class, dict[str, float]]] = {}
    for (pool, class_), shares in rows.items():
        kept.setdefault(f"{pool.kind}.{pool.name}", {})[class_] = dict(shares)
    write_atomic(_path(site), _Kept(shares=kept).model_dump_json(indent=1).encode())


def hold_file(site: Path) -> Path:
    """While this file is there, the site's agent measures and plans on, but writes no shares: whoever
    put it there has written others.
    """
    return site / "agent" / "hold"


def pool_of(key: PoolKey) -> Pool:
    """The pool that a summary names `key`."""
    kinds: dict[str, Kind] = {"model": "model", "app": "app"}
    kind, _, name = key.partition(".")
    return Pool(kinds[kind], name)


def _path(site: Path) -> Path:
    return site / "agent" / "plan.json"
