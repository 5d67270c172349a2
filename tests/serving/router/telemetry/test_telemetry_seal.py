"""A summary counts when its site has signed it, by a certificate that the fleet still believes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from telemetry_made import Clock, summary

from serving.identity import Authority, SiteIdentity
from serving.router.telemetry.board import Board
from serving.router.telemetry.message import RefusedError
from serving.router.telemetry.seal import IdentitySeal

TEXT = summary().model_dump_json()


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    monkeypatch.setenv("HEADEND_HOME", str(tmp_path))
    authority = Authority.make("two")
    for site in ("a", "b"):
        authority.issue(site, SiteIdentity.of("two", site))
    return authority


@pytest.fixture
def seal(authority: Authority) -> Callable[[str], IdentitySeal]:
    return lambda site: IdentitySeal("two", SiteIdentity.of("two", site))


def test_what_a_site_has_signed_counts_as_its_own_and_no_other(seal):
    signed = seal("b").sign(TEXT)
    seal("a").check(signed, "b")
    seal("a").check(signed, "b")
    with pytest.raises(RefusedError, match="another site's"):
        seal("a").check(signed, "a")


@pytest.mark.parametrize(
    "change",
    [
        {"summary": TEXT.replace("3.0", "3.1")},
        {"signature": ""},
        {"signature": "no base64!"},
        {"signature": "AAAA"},
        {"certificate": ""},
        {"certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
    ],
)
def test_what_was_changed_on_the_way_is_refused(seal, change):
    with pytest.raises(RefusedError) as refused:
        seal("a").check(seal("b").sign(TEXT).model_copy(update=change), "b")
    assert refused.value.reason == "signature"


def test_another_authority_of_the_same_name_signs_nothing_here(seal, tmp_path, monkeypatch):
    mine = seal("a")
    monkeypatch.setenv("HEADEND_HOME", str(tmp_path / "elsewhere"))
    other = Authority.make("two")
    other.issue("b", SiteIdentity.of("two", "b"))
    with pytest.raises(RefusedError, match="not of an authority"):
        mine.check(seal("b").sign(TEXT), "b")


def test_a_revoked_site_is_not_believed_any_more(authority, seal):
    signed = seal("b").sign(TEXT)
    authority.revoke("b")
    authority.distribute(["a"])
    with pytest.raises(RefusedError, match="revoked"):
        seal("a").check(signed, "b")


def test_a_relay_cannot_speak_for_a_site(seal):
    clock = Clock()
    board = Board("two", "a", ["a", "b", "c"], seal("a"), clock)
    forged = seal("a").sign(TEXT)
    assert not board.take(forged, "c")
    assert board.refused == {"signature": 1}
    assert board.take(seal("b").sign(TEXT), "c"), "and passes on what the site has signed"
