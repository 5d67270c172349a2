"""Writes a running front door's files anew, and makes sure that Envoy has taken them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from models.errors import HeadendError
from serving.router import transition
from serving.router.transition import Transition
from serving.site import door, logs
from serving.site.lifecycle import fetch
from serving.site.rollout import seen
from serving.site.rollout.history import Revision
from serving.site.spec import SiteDirectory

_COUNTED = r"update_(attempt|rejected|failure)$"
_QUIET_S = 0.4
"""Envoy takes a file up within milliseconds of its renaming; without news for this long it has them all."""
_LIMIT_S = 5.0


def ask(directory: SiteDirectory, revision: Revision, wanted: Transition) -> None:
    """Have the front door of a site that runs `revision` do `wanted`.

    Raises `HeadendError` with Envoy's words when it refuses.
    """
    transition.write(directory.path, wanted)
    spec = directory.read_spec()
    if spec is None or not directory.supervised():
        return
    fleet, site = revision.fleet, directory.site
    bundles = fetch(fleet, {model: revision.bundles[model] for model in fleet.models_at(site)})
    with taken(directory):
        door.write(door.view_of(fleet, directory, bundles, spec.ports), directory)


@contextmanager
def taken(directory: SiteDirectory) -> Iterator[None]:
    """Whatever the block writes, Envoy accepts; else `HeadendError` with its words."""
    admin = _admin(directory)
    before = _counts(admin)
    yield
    deadline = time.monotonic() + _LIMIT_S
    last, quiet_since = before, time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - quiet_since < _QUIET_S:
        if (now := _counts(admin)) != last:
            last, quiet_since = now, time.monotonic()
        time.sleep(0.05)
    # A restarted Envoy counts from zero.
    refused = {
        name: count - before.get(name, 0)
        for name, count in last.items()
        if not name.endswith("attempt") and count > before.get(name, 0)
    }
    if refused:
        words = [
            line
            for line in logs.tail(directory.log("envoy"), 200)
            if "rejected" in line or "gRPC config" in line
        ]
        raise HeadendError(
            f"Envoy of site {directory.site} refuses its new configuration ({', '.join(sorted(refused))}).",
            hint="\n".join(words[-3:]) or f"See: headend logs {directory.site} envoy",
        )


def _admin(directory: SiteDirectory) -> int:
    spec = directory.read_spec()
    return spec.ports.get("envoy-admin", 0) if spec and directory.supervised() else 0


def _counts(admin: int) -> dict[str, int]:
    try:
        return seen.counters(admin, _COUNTED) if admin else {}
    except HeadendError:  # it is being restarted
        return {}
