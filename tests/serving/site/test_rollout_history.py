"""Revisions: kept, numbered, pruned; and what was rolled back stays away."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import UsageError
from models.files import write_atomic
from serving.fleet import Fleet
from serving.site.rollout.history import KEPT, History, Revision, wanted_bundles

FLEET = Fleet.parse("{fleet: f, models: {m: {}}, sites: {a: {front_door: '127.0.0.1:80'}}}", where="here")
OLD, NEW, NEWER = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADEND_HOME", str(tmp_path))
    return tmp_path


def served(digest: str) -> Revision:
    history = History("f")
    made = history.next(FLEET, {"m": digest, "gone": OLD}, "up")
    history.record(made)
    return made


def current(home: Path, digest: str) -> None:
    write_atomic(home / "store" / "current" / "m.json", f'{{"digest": "{digest}"}}'.encode())


def test_a_revision_is_recorded_once_and_read_back() -> None:
    one = served(OLD)
    assert one.bundles == {"m": OLD}
    assert served(OLD).number == 2
    assert History("f").numbers() == [1]
    assert History("f").latest() == one
    with pytest.raises(UsageError, match="not been anything else"):
        History("f").before_latest()
    served(NEW)
    assert History("f").before_latest() == one
    with pytest.raises(UsageError, match="no revision 7"):
        History("f").read(7)


def test_old_ones_are_pruned() -> None:
    for number in range(KEPT + 5):
        served(f"{number:064x}")
    assert History("f").numbers() == list(range(6, KEPT + 6))


def test_what_was_rolled_back_stays_away_until_there_is_something_newer(state: Path) -> None:
    history, one = History("f"), served(OLD)
    current(state, NEW)
    assert wanted_bundles(FLEET, ["m", "none"]) == {"m": NEW}
    history.refuse(history.next(FLEET, {"m": NEW}, "apply"), one, "too slow")
    assert history.refused("m") == {NEW: "too slow"}
    assert wanted_bundles(FLEET, ["m"]) == {"m": OLD}
    assert wanted_bundles(FLEET, ["m"], again=True) == {"m": NEW}
    current(state, NEWER)
    assert wanted_bundles(FLEET, ["m"]) == {"m": NEWER}
    current(state, NEW)
    history.accept(history.next(FLEET, {"m": NEW}, "apply"))
    assert wanted_bundles(FLEET, ["m"]) == {"m": NEW}
