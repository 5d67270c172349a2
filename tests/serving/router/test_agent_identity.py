"""An agent keeps its site's certificate fresh where the fleet's authority is kept."""

from datetime import timedelta
from pathlib import Path

import pytest

from serving.identity import Authority, SiteIdentity
from serving.router.agent.identity import Identity


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SiteIdentity:
    """Site `hub`'s, of a fleet whose authority is on this machine."""
    monkeypatch.setenv("HEADEND_HOME", str(tmp_path))
    Authority.make("test")
    return SiteIdentity.of("test", "hub")


async def test_a_certificate_is_renewed_before_it_expires_and_taken_up(files: SiteIdentity) -> None:
    old = Authority("test").issue("hub", files, life=timedelta(seconds=30))
    async with Identity("test", "hub", str(files.path)) as identity:
        client = identity.client
        await identity.issue()
        assert files.read_certificate().not_valid_after_utc > old.expires
        await identity.renew()
        assert identity.client is not client


async def test_one_that_lives_long_enough_is_left_alone(files: SiteIdentity) -> None:
    Authority("test").issue("hub", files)
    before = files.certificate.read_bytes()
    async with Identity("test", "hub", str(files.path)) as identity:
        await identity.issue()
    assert files.certificate.read_bytes() == before


async def test_a_revoked_site_gets_none_and_its_agent_goes_on(files: SiteIdentity) -> None:
    authority = Authority("test")
    authority.issue("hub", files, life=timedelta(seconds=30))
    authority.revoke("hub")
    before = files.certificate.read_bytes()
    async with Identity("test", "hub", str(files.path)) as identity:
        await identity.issue()
    assert files.certificate.read_bytes() == before


async def test_without_the_authority_or_an_identity_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADEND_HOME", str(tmp_path))
    async with Identity("test", "hub", None) as identity:
        await identity.issue()
        await identity.renew()
    assert not (tmp_path / "fleets").exists()
