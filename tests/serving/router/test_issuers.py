"""Issuers whose keys are fetched: by https and http, changed, withheld, and shown by whoever is not them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import agent_sites
import grpc
import httpx
import plain_sites
import pytest
from issuer import Issuer, KeysServer
from router_parts import RunningSite
from server_certificate import ServerAuthority, server_context
from waiting import free_ports, until

from models.errors import DeclarationError
from serving.fleet import Fleet, Jwt
from serving.router.agent import issuers

FLEET = """
fleet: f
models: {{}}
apps: {{review: {{}}}}
access: {{jwt: [{issuers}]}}
sites: {{a: {{front_door: "127.0.0.1:{0}", peer: "127.0.0.1:{1}"}}}}
"""


@dataclass(frozen=True)
class Door:
    site: RunningSite
    keys: issuers.IssuerKeys

    def asked(self, token: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"}
        return httpx.post(f"{self.site.url}/v1/moderations", headers=headers, timeout=20)

    def lets_in(self, token: str) -> bool:
        return self.asked(token).status_code == 200

    def failed(self) -> int:
        return self.keys.failures.total()


Opened = Callable[..., AbstractContextManager[Door]]


@contextmanager
def _working(keys: issuers.IssuerKeys) -> Iterator[None]:
    """As in an agent, whose event loop this stands for."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(keys.run())

    def work() -> None:
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opened:
    """Opens a front door whose issuers are `name=URL`; `authorities`: the file of those trusted."""
    monkeypatch.setattr(issuers, "FETCH_EVERY_S", 0.2)
    monkeypatch.setattr(issuers, "_RETRY_S", (0.2, 0.2))

    @contextmanager
    def door(authorities: Path | None = None, **urls: str) -> Iterator[Door]:
        trusted = f", authorities: {authorities}" if authorities else ""
        listed = ", ".join(
            f"{{issuer: {name}, audiences: [headend], jwks: '{url}'{trusted}}}" for name, url in urls.items()
        )
        fleet = Fleet.parse(FLEET.format(*free_ports(2), issuers=listed), where="here")
        site = plain_sites.site(fleet, "a", tmp_path / "a")
        with plain_sites.running(site):
            # Readiness asks for no token, and a front door opens without its issuers.
            until(lambda: httpx.get(f"{site.url}/readyz").status_code == 200, "ready", 60)
            keys = issuers.IssuerKeys(site.view.access, site.directory / "envoy")
            with _working(keys):
                yield Door(site, keys)

    return door


@pytest.mark.e2e
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_keys_are_fetched_by_https_and_their_rotation_is_followed(
    opened: Opened, tmp_path: Path, host: str
) -> None:
    authority = ServerAuthority(tmp_path)
    (port,) = free_ports(1)
    old, new = Issuer("idp", "old"), Issuer("idp", "new")
    server = KeysServer(old.jwks(), port, server_context(*authority.issue("idp", host)))
    with server.running(), opened(authority.path, idp=f"https://{host}:{port}/keys?v=1") as door:
        until(lambda: door.lets_in(old.token()), "the first key counts", 20)
        assert not door.lets_in(new.token())
        server.content = new.jwks()
        until(lambda: door.lets_in(new.token()), "the new key counts", 20)
        assert door.asked(old.token(jti="not seen before")).status_code == 401


@pytest.mark.e2e
def test_without_keys_a_token_gets_a_clear_answer_and_keys_that_were_fetched_outlive_their_url(
    opened: Opened, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    issuer = Issuer("idp")
    server = KeysServer(issuer.jwks(), port)
    with opened(idp=f"http://127.0.0.1:{port}/keys") as door:
        answer = door.asked(issuer.token())
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "issuer's keys could not be fetched" in answer.json()["error"]["message"]
        with grpc.insecure_channel(door.site.door) as channel:
            call = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", timeout=20, metadata=[("authorization", f"Bearer {issuer.token()}")])
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "issuer's keys" in caught.value.details()
        assert door.asked("nonsense").status_code == 401
        with server.running():
            until(lambda: door.lets_in(issuer.token()), "keys are fetched when they can be", 20)
        before = door.failed()
        until(lambda: door.failed() > before + 3, "it is away again", 20)
        door.site.parts["envoy"].kill()
        door.site.restart("envoy")
        assert {door.asked(issuer.token(jti=str(n))).status_code for n in range(10)} == {200}
        assert door.asked(Issuer("idp").token()).status_code == 401


@pytest.mark.e2e
def test_an_issuer_that_is_away_does_not_stand_before_another(opened: Opened) -> None:
    here, away = Issuer("here"), Issuer("away")
    port, nobody = free_ports(2)
    urls = {"away": f"http://127.0.0.1:{nobody}/keys", "here": f"http://127.0.0.1:{port}/keys"}
    with KeysServer(here.jwks(), port).running(), opened(**urls) as door:
        until(lambda: door.lets_in(here.token()), "let in", 20)
        assert door.asked(away.token()).status_code == 503
        assert door.asked(Issuer("nobody's").token()).status_code == 401


@pytest.mark.e2e
@pytest.mark.parametrize("shown", ["another authority's", "another host's"])
def test_keys_of_a_server_that_is_not_the_issuers_are_not_taken(
    opened: Opened, tmp_path: Path, shown: str
) -> None:
    authority, other = ServerAuthority(tmp_path), tmp_path / "other"
    other.mkdir()
    (port,) = free_ports(1)
    issuer = Issuer("idp")
    if shown == "another host's":
        files = authority.issue("idp", "elsewhere.example")
    else:
        files = ServerAuthority(other).issue("idp", "localhost")
    server = KeysServer(issuer.jwks(), port, server_context(*files))
    with server.running(), opened(authority.path, idp=f"https://localhost:{port}/keys") as door:
        until(lambda: door.failed() > 2, "it is asked, and refused", 20)
        assert door.asked(issuer.token()).status_code == 503
        assert server.asked == 0


@pytest.mark.e2e
def test_by_default_the_authorities_of_the_machine_are_trusted(
    opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = ServerAuthority(tmp_path)
    (port,) = free_ports(1)
    issuer = Issuer("idp")
    server = KeysServer(issuer.jwks(), port, server_context(*authority.issue("idp", "localhost")))
    url = f"https://localhost:{port}/keys"
    with server.running():
        with opened(idp=url) as door:
            until(lambda: door.failed() > 2, "the test's authority is not among them", 20)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
        with opened(idp=url) as door:
            until(lambda: door.lets_in(issuer.token()), "it is now", 20)


@pytest.mark.e2e
@pytest.mark.parametrize(
    "content", ["", "<html>", "[]", '{"keys": []}', '{"keys": [{"kty": "oct", "k": "AA"}]}', "x" * (2 << 20)]
)
def test_what_is_no_set_of_public_keys_leaves_those_there_were(opened: Opened, content: str) -> None:
    (port,) = free_ports(1)
    issuer = Issuer("idp")
    server = KeysServer(issuer.jwks(), port)
    with server.running(), opened(idp=f"http://localhost:{port}/keys") as door:
        until(lambda: door.lets_in(issuer.token()), "let in", 20)
        server.content = content
        before = door.failed()
        until(lambda: door.failed() > before + 1, "it is not taken", 20)
        assert door.lets_in(issuer.token(jti="new"))


@pytest.mark.e2e
def test_an_agent_fetches_them(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    issuer = Issuer("idp")
    access = f"access: {{{{jwt: [{{{{issuer: idp, audiences: [headend], jwks: 'http://localhost:{port}/'}}}}]}}}}\n"
    with (
        KeysServer(issuer.jwks(), port).running(),
        agent_sites.running(tmp_path, agent_sites.FLEET + access, ("here",)) as sites,
    ):
        here = sites["here"]
        headers = {"authorization": f"Bearer {issuer.token()}"}

        def status() -> int:
            with suppress(httpx.TransportError):
                return httpx.post(f"{here.door}/v1/moderations", headers=headers, timeout=20).status_code
            return 0

        until(lambda: status() == 200, "its token counts", 60)
        assert here.metric('headend_issuer_keys_age_seconds{issuer="idp"}') < 60
        assert here.metric('headend_issuer_fetches_failed_total{issuer="idp"}') == 0


@pytest.mark.parametrize(
    ("jwks", "said"),
    [
        ("http://idp.example/keys", "by https"),
        ("ftp://idp.example/keys", "by https"),
        ("https:///keys", "has the form"),
        ("https://user@idp.example/keys", "has the form"),
        ("https://idp.example:x/keys", "Port could not be cast"),
    ],
)
def test_urls_that_keys_cannot_be_fetched_from_are_refused(jwks: str, said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        Fleet.parse(
            FLEET.format(1, 2, issuers=f"{{issuer: i, audiences: [a], jwks: '{jwks}'}}"), where="here"
        )


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    def load(**fields: Any) -> None:
        issuer = {"issuer": "i", "audiences": ["a"], **fields}
        (tmp_path / "fleet.yaml").write_text(FLEET.format(1, 2, issuers=issuer))
        Fleet.load(tmp_path / "fleet.yaml")

    with pytest.raises(DeclarationError, match="`jwks` of issuer i: there is no file"):
        load(jwks="none.json")
    with pytest.raises(DeclarationError, match="`authorities` of issuer i: there is no file"):
        load(jwks="https://idp.example/keys", authorities="none.pem")
    with pytest.raises(DeclarationError, match="fetched by https"):
        load(jwks="http://localhost/keys", authorities="none.pem")
    assert Jwt(issuer="i", audiences=["a"], jwks="http://[::1]:8/keys").is_remote
