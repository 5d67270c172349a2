"""Every Envoy resource of a dozen fleets: as recorded, and accepted by Envoy itself.

A scenario is a fleet file in `golden_fleets`, seen from its first site; its snapshot lies beside it as
`<scenario>.golden.yaml`. `make golden` writes the snapshots anew: the diff is what a change does to routing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from folding import BLOCKS, as_yaml, fold, unfold
from test_router_config import accepted, resources

from models.catalog_index import load_card
from serving.fleet import CLASSES, Certificate, Fleet, demo_fleet
from serving.identity import ApiKey
from serving.router.transition import Canary, Transition
from serving.router.view import FleetView, LocalPorts, Pool
from serving.site.door import rooms_of

FILES = Path(__file__).parent / "golden_fleets"
OUT = Path("/out")
"""Stands for the directory in snapshots."""
SUFFIX = ".golden.yaml"


def _sparse(view: FleetView) -> FleetView:
    """The plan of a large fleet names a few sites only."""
    split = {"site-01": 0.55, "site-04": 0.3, "site-11": 0.15}
    return replace(view, plan={(Pool("model", "ppocr-cls"), each): split for each in CLASSES})


def _canary(view: FleetView) -> FleetView:
    trial = Canary(http=9100, grpc=9101, judge_http=9102, judge_grpc=9103, share=0.1, mirror=0.05)
    return replace(view, transition=Transition(canaries={"ppocr-cls": trial}))


def _drained(view: FleetView) -> FleetView:
    return replace(view, transition=Transition(draining=True, closed=True))


def _guarded(view: FleetView) -> FleetView:
    keys = [
        ApiKey(id=each, tenant="news", digest="5en6G6MezRroT3XKqkdPOmY/BfQ=", created=at, revoked=revoked)
        for at in [datetime(2026, 1, 1, tzinfo=UTC)]
        for each, revoked in (("aaaaaaaaaa", None), ("bbbbbbbbbb", at))
    ]
    ports = replace(view.ports, inside=9010)
    return replace(view, keys=tuple(keys), ports=ports, identity="/home/fleets/guarded/studio/identity")


def _with_tokens(view: FleetView) -> FleetView:
    shown = Certificate(certificate=Path("/etc/headend/door.pem"), key=Path("/etc/headend/door.key"))
    return replace(view, ports=replace(view.ports, inside=9010), certificate=shown)


SEEN: dict[str, Callable[[FleetView], FleetView]] = {
    "sparse-shares": _sparse,
    "canary": _canary,
    "drained": _drained,
    "guarded": _guarded,
    "tokens": _with_tokens,
}
"""What a scenario's front door has learnt while it runs, beyond what the fleet file says."""


def fleets() -> dict[str, Fleet]:
    """By scenario; the packaged demo fleet first."""
    demo = demo_fleet()
    sites = {name: site.model_copy(update={"threads": 4}) for name, site in demo.sites.items()}
    files = sorted(path for path in FILES.glob("*.yaml") if not path.name.endswith(SUFFIX))
    return {"demo": demo.model_copy(update={"sites": sites})} | {
        path.stem: Fleet.load(path) for path in files if path.stem != BLOCKS
    }


def view_of(scenario: str, fleet: Fleet) -> FleetView:
    site = next(iter(fleet.sites))
    cards = {name: load_card(name) for name in fleet.models_at(site)}
    apps = {app: 9003 + index for index, app in enumerate(fleet.apps_at(site))}
    view = FleetView.of(fleet, site, LocalPorts(9000, 9001, apps, 9010, 9011), rooms_of(fleet, site, cards))
    return SEEN.get(scenario, lambda view: view)(view)


FLEETS = fleets()


@pytest.fixture(scope="module")
def snapshots() -> dict[str, Any]:
    everything = {name: resources(view_of(name, fleet), OUT) for name, fleet in FLEETS.items()}
    folded = fold(everything)
    assert {name: unfold(folded[name], folded[BLOCKS]) for name in FLEETS} == everything
    return folded


@pytest.mark.parametrize("scenario", [BLOCKS, *FLEETS])
def test_resources_are_as_recorded(scenario: str, snapshots: dict[str, Any]) -> None:
    path = FILES / f"{scenario}{SUFFIX}"
    now = as_yaml(snapshots[scenario])
    if os.environ.get("HEADEND_UPDATE_GOLDEN") == "1":
        path.write_text(now, "utf-8")
    recorded = path.read_text("utf-8") if path.is_file() else ""
    assert now.splitlines() == recorded.splitlines(), "if this is what you want: make golden"


def test_snapshots_are_those_of_the_scenarios() -> None:
    recorded = {path.name.removesuffix(SUFFIX) for path in FILES.glob(f"*{SUFFIX}")}
    assert recorded == {BLOCKS, *FLEETS}


@pytest.mark.parametrize("scenario", FLEETS)
def test_envoy_accepts_them(scenario: str, tmp_path: Path) -> None:
    accepted(view_of(scenario, FLEETS[scenario]), tmp_path)
