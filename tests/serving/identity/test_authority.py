"""The fleet's authority: what it writes, what OpenSSL makes of it, and what its rotation asks."""

from __future__ import annotations

import ssl
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import HeadendError, IntegrityError, UsageError
from serving.identity import Authority, SiteIdentity, client_context, server_name, spiffe_id
from serving.identity.authority import SITE_LIFE
from serving.identity.files import authority_directory


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADEND_HOME", str(tmp_path))


def shake_hands(client: SiteIdentity, server: SiteIdentity, name: str) -> None:
    """TLS between two sites, in memory, each checking the other as a front door does; raises `SSLError`."""
    asked = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(server.authorities))
    asked.load_cert_chain(server.key)
    asked.load_verify_locations(server.revoked)
    asked.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    asked.verify_mode = ssl.CERT_REQUIRED
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client_context(client).wrap_bio(to_client, to_server, server_hostname=name),
        asked.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = sides
    for _ in range(10):
        waiting = [side for side in waiting if not _done(side)]
        if not waiting:
            return
    raise AssertionError("no end of the handshake")


def _done(side: ssl.SSLObject) -> bool:
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def sites(*names: str) -> list[SiteIdentity]:
    return [SiteIdentity.of("f", name) for name in names]


def test_sites_know_each_other_by_name() -> None:
    authority = Authority.make("f")
    a, b = sites("a", "b")
    for name in ("a", "b"):
        authority.renew(name)
    shake_hands(a, b, server_name("f", "b"))
    with pytest.raises(ssl.SSLError, match="Hostname mismatch"):
        shake_hands(a, b, server_name("f", "c"))
    names = a.read_certificate().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://f/site/a"]
    assert spiffe_id("f", "a") == "spiffe://f/site/a"


def test_another_fleets_authority_is_not_believed() -> None:
    a, b = sites("a", "b")
    Authority.make("f").renew("a")
    Authority.make("g").issue("b", b)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shake_hands(a, b, server_name("g", "b"))


def test_private_files_are_private() -> None:
    Authority.make("f").renew("a")
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for directory in (authority_directory("f"), SiteIdentity.of("f", "a").path)
        for path in directory.iterdir()
        if b"PRIVATE" in path.read_bytes()
    }
    assert modes == {"ca.key": 0o600, "key.pem": 0o600}


def test_a_revoked_site_is_refused_and_stays_out_until_it_is_taken_in_again() -> None:
    authority = Authority.make("f")
    a, b = sites("a", "b")
    for name in ("a", "b"):
        authority.renew(name)
    assert authority.revoke("b") == 1
    authority.distribute(["a", "b"])
    with pytest.raises(ssl.SSLError, match="revoked"):
        shake_hands(a, b, server_name("f", "b"))
    with pytest.raises(HeadendError, match="was revoked"):
        authority.renew("b")
    authority.issue("b", b)
    shake_hands(a, b, server_name("f", "b"))
    assert authority.renew("b") is None


def test_renewal_comes_when_a_third_is_left() -> None:
    authority = Authority.make("f")
    (a,) = sites("a")
    assert authority.renew("a")
    assert authority.renew("a") is None
    authority.issue("a", a, life=SITE_LIFE / 100)
    assert authority.renew("a")
    a.key.unlink()
    assert authority.renew("a")


def test_a_rotation_is_never_noticed() -> None:
    """After each step, every pair of sites gets on, whether or not the other has the step's files yet."""
    authority = Authority.make("f")
    here, there = sites("here", "there")
    authority.renew("here")
    authority.issue("there", there)
    for step in ("trust", "issue", "finish"):
        if step == "finish":
            with pytest.raises(UsageError, match="still show a certificate of the old authority: there"):
                authority.rotate(["here"])
            authority.issue("there", there)
        assert authority.register.next_step == step
        assert authority.rotate(["here"]) == step
        authority.distribute(["here"])
        shake_hands(here, there, server_name("f", "there"))
        shake_hands(there, here, server_name("f", "here"))
        authority.distribute(["here", "there"])
        shake_hands(here, there, server_name("f", "there"))
    assert len(authority.authorities) == 1
    assert authority.register.next_step == "trust"


def test_a_revocation_survives_a_rotation() -> None:
    authority = Authority.make("f")
    authority.renew("a")
    authority.revoke("a")
    for _ in range(3):
        authority.rotate(["a"])
    with pytest.raises(HeadendError, match="was revoked"):
        authority.renew("a")


def test_there_is_one_authority() -> None:
    with pytest.raises(UsageError, match="no certificate authority"):
        Authority("f")
    Authority.make("f")
    with pytest.raises(UsageError, match="already"):
        Authority.make("f")


@pytest.mark.parametrize("file", ["ca.key", "register.json"])
def test_damage_is_reported(file: str) -> None:
    Authority.make("f")
    path = authority_directory("f") / file
    path.write_bytes(path.read_bytes()[:300].replace(b"issued", b"issue"))
    with pytest.raises(IntegrityError, match=r"authority|register"):
        Authority("f")


def test_a_certificate_never_outlives_its_authority() -> None:
    authority = Authority.make("f", life=timedelta(days=2))
    (a,) = sites("a")
    authority.issue("a", a)
    assert a.read_certificate().not_valid_after_utc <= authority.authorities[0].not_valid_after_utc


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(["issue a", "issue b", "revoke a", "revoke b", "rotate"]), max_size=8))
def test_whoever_is_not_revoked_gets_on(
    steps: list[str], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the order of issues, revocations and steps of rotations on one machine."""
    monkeypatch.setenv("HEADEND_HOME", str(tmp_path_factory.mktemp("home")))
    authority = Authority.make("f")
    named = dict(zip("ab", sites("a", "b"), strict=True))
    for name in named:
        authority.renew(name)
    barred: set[str] = set()
    for step in steps:
        what, _, name = step.partition(" ")
        if what == "rotate":
            authority.rotate(list(named))
        elif what == "issue":
            authority.issue(name, named[name])
            barred -= {name}
        else:
            authority.revoke(name)
            barred |= {name}
        authority.distribute(list(named))
        assert authority.register.barred == barred
        for client, server in ("ab", "ba"):
            if barred:
                with pytest.raises(ssl.SSLError):
                    shake_hands(named[client], named[server], server_name("f", server))
            else:
                shake_hands(named[client], named[server], server_name("f", server))
