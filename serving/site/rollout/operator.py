"""Draining and undraining a site because a person wants it."""

from __future__ import annotations

from models.errors import UsageError
from serving.fleet import Fleet
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
        return draining.drain(directory, served, served.fleet.rollout.drain_s, tell, by_operator=True)


def undrain(fleet: Fleet, site: str) -> None:
    """Let it answer again."""
    with alone(fleet.fleet):
        directory, served = _running(fleet, site)
        draining.undrain(directory, served)


def _running(fleet: Fleet, site: str) -> tuple[SiteDirectory, Revision]:
    refuse_while_rolling_out(fleet.fleet)
    directory, served = SiteDirectory(fleet.fleet, site), History(fleet.fleet).latest()
    if served is None or site not in served.fleet.sites or not directory.supervised():
        raise UsageError(f"Site {site} does not run.", hint="See: headend status")
    return directory, served
