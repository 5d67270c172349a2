"""A front door that others can reach says who may call, or is not opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import HeadendError
from serving.fleet import Fleet, is_loopback
from serving.identity import Authority
from serving.site import lifecycle
from serving.site.exposure import exposed
from serving.site.plan import make_plan


def fleet(front_door: str, access: str = "") -> Fleet:
    return Fleet.parse(
        f"{{fleet: f, models: {{}}, {access} sites: {{a: {{front_door: '{front_door}'}}}}}}", where="x"
    )


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1"])
def test_loopback_is_open(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADEND_HOME", str(tmp_path))
    assert is_loopback(address.rpartition(":")[0].strip("[]"))
    assert not list(exposed(fleet(address), "a"))


@pytest.mark.parametrize("address", ["10.0.0.5:8080", "0.0.0.0:8080", "[::]:8080", "studio.example:8080"])
def test_any_other_address_needs_a_word(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADEND_HOME", str(tmp_path))
    front_door, peer = exposed(fleet(address), "a")
    assert "who may call" in front_door
    assert "no certificate" in peer
    assert not list(exposed(fleet(address, "access: open,"), "a"))
    assert list(exposed(fleet(address, "access: {},"), "a")) == [peer]
    Authority.make("f")
    assert not list(exposed(fleet(address, "access: {},"), "a"))


def test_plan_shows_it_and_up_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADEND_HOME", str(tmp_path))
    declared = fleet("0.0.0.0:8080")
    assert make_plan(declared, ["a"]).sites[0].exposed
    with pytest.raises(HeadendError, match="who may call") as caught:
        lifecycle.up(declared, ["a"], print, [])
    assert "access: open" in caught.value.hint
    assert not (tmp_path / "fleets" / "f" / "a").exists()
