"""Draining and undraining a site because a person wants it."""

from __future__ import annotations

from uuid import uuid4

from models.errors import UsageError
from serving.fleet import Fleet
from serving.site import derive, lifecycle
from serving.site.rollout import drain as draining
from serving.site.rollout.engine import alone
from serving.site.rollout.history import History, Revision
from serving.site.rollout.state import refuse_while_rolling_out
from serving.site.spec import SiteDirectory
from serving.site.waiting import Progress


def drain(fleet: Fleet, site: str, tell: Progress) -> str:
    """Empty `site`, and tell whoever stands before its front door; says how it went."""
    with alone(fleet.fleet):
        directory, served = _running(fleet, site)
        _probe(directory, served, closed=True)
        return draining.drain(directory, served, served.fleet.rollout.drain_s, tell, closed=True)


def undrain(fleet: Fleet, site: str) -> None:
    """Let it answer again."""
    with alone(fleet.fleet):
        directory, served = _running(fleet, site)
        draining.undrain(directory, served)
        _probe(directory, served, closed=False)


def _probe(directory: SiteDirectory, served: Revision, *, closed: bool) -> None:
    """Have the supervisor ask a closed front door only whether it lives: it says that it is not ready."""
    spec = directory.read_spec()
    if spec is None:
        return
    url = derive.door_probe(served.fleet, directory.site, closed=closed)
    parts = [part.model_copy(update={"ready": url}) if part.name == "envoy" else part for part in spec.parts]
    changed = spec.model_copy(update={"parts": parts, "revision": uuid4().hex})
    directory.write_spec(changed)
    lifecycle.reload(directory, changed)


def _running(fleet: Fleet, site: str) -> tuple[SiteDirectory, Revision]:
    refuse_while_rolling_out(fleet.fleet)
    directory, served = SiteDirectory(fleet.fleet, site), History(fleet.fleet).latest()
    if served is None or site not in served.fleet.sites or not directory.supervised():
        raise UsageError(f"Site {site} does not run.", hint="See: headend status")
    return directory, served
