"""A front door that takes TLS alone: every protocol on the one port, changed files, files that do not fit."""

from __future__ import annotations

import shutil
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import plain_sites
import pytest
from cryptography import x509
from router_parts import RunningSite
from server_certificate import ServerAuthority
from waiting import free_ports, until

from loadtests.campaign import Work
from loadtests.speakers import open_speaker
from models.errors import DeclarationError
from serving.fleet import Certificate, Fleet
from serving.site import door_certificate

FLEET = """
fleet: f
models: {{}}
apps: {{review: {{}}}}
sites:
  a:
    front_door: "127.0.0.1:{0}"
    peer: "127.0.0.1:{1}"
    tls: {{certificate: {directory}/door.pem, key: {directory}/door.key}}
"""


@dataclass(frozen=True)
class Door:
    site: RunningSite
    authority: ServerAuthority
    directory: Path

    @property
    def url(self) -> str:
        return f"https://{self.site.door}"

    @property
    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority.path))

    def shown(self, protocols: list[str]) -> tuple[int, str | None]:
        """The serial of its certificate, and the protocol that it chooses."""
        context = self.context
        context.set_alpn_protocols(protocols)
        at = self.site.view.local.front_door
        with (
            socket.create_connection((at.ip, at.port), 10) as plain,
            context.wrap_socket(plain, server_hostname=at.ip) as secure,
        ):
            found = secure.getpeercert(binary_form=True)
            assert found
            return x509.load_der_x509_certificate(found).serial_number, secure.selected_alpn_protocol()


def put(files: tuple[Path, Path], directory: Path) -> None:
    """As an operator does: each moved into its place."""
    for source, name in ((files[1], "door.key"), (files[0], "door.pem")):
        shutil.copy(source, directory / f".{name}")
        (directory / f".{name}").replace(directory / name)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    root = tmp_path_factory.mktemp("door-tls")
    authority, directory = ServerAuthority(root), root / "door"
    directory.mkdir()
    put(authority.issue("first", "127.0.0.1"), directory)
    fleet = Fleet.parse(FLEET.format(*free_ports(2), directory=directory), where="here")
    site = plain_sites.site(fleet, "a", root / "a")
    with plain_sites.running(site):
        found = Door(site, authority, directory)
        with httpx.Client(verify=found.context) as client:

            def ready() -> bool:
                try:
                    return client.get(f"{found.url}/readyz").status_code == 200
                except httpx.TransportError:
                    return False

            until(ready, "ready", 60)
        yield found


@pytest.mark.e2e
def test_every_protocol_is_on_the_one_port(door: Door) -> None:
    with httpx.Client(verify=door.context) as client:
        answer = client.post(f"{door.url}/v1/moderations")
    assert (answer.status_code, answer.http_version) == (200, "HTTP/1.1")
    assert [door.shown([each])[1] for each in ("http/1.1", "h2")] == ["http/1.1", "h2"]
    credentials = grpc.ssl_channel_credentials(door.authority.path.read_bytes())
    with grpc.secure_channel(door.site.door, credentials) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=10)
    assert "no such model" in caught.value.details()


@pytest.mark.e2e
def test_nothing_is_said_in_the_clear_or_to_whoever_does_not_know_the_authority(door: Door) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{door.site.door}/healthz")
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{door.url}/healthz")


@pytest.mark.e2e
def test_a_new_certificate_is_taken_up_and_one_that_does_not_fit_is_not(door: Door, tmp_path: Path) -> None:
    before = door.shown(["h2"])[0]
    put(door.authority.issue("second", "127.0.0.1"), door.directory)
    until(lambda: door.shown(["h2"])[0] != before, "the new one is shown", 20)
    second = door.shown(["h2"])[0]
    (wrong, _), (_, other) = (door.authority.issue(name, "127.0.0.1") for name in ("third", "fourth"))
    put((wrong, other), door.directory)
    refused = "sds.door.key_rotation_failed"
    until(lambda: door.site.stats(refused)[refused] > 0, "it is refused", 20)
    assert door.shown(["h2"])[0] == second
    with httpx.Client(verify=door.context) as client:
        assert client.post(f"{door.url}/v1/moderations").status_code == 200


@pytest.mark.e2e
@pytest.mark.parametrize("client", ["openai", "http", "triton-http", "triton-grpc"])
def test_load_tests_speak_to_it(door: Door, client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app answers nonsense and the model does not exist: an answer came all the same."""
    what: dict[str, Any] = {"model": "open-nsfw", "input": "photographs"}
    if client in ("openai", "http"):
        what = {"app": "review", "input": "clean-texts"}
    work = Work.model_validate({"name": "work", "client": client, **what})

    def outcome() -> str:
        speaker = open_speaker(work, door.url)
        try:
            return speaker.ask().outcome
        finally:
            speaker.close()

    assert outcome() == "connection"
    monkeypatch.setenv("SSL_CERT_FILE", str(door.authority.path))
    assert outcome() in ("wrong", "client-error")


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    authority = ServerAuthority(tmp_path)
    (first, key), (_, other) = authority.issue("first", "a"), authority.issue("second", "b")
    assert door_certificate.check("a", Certificate(certificate=first, key=key))
    for certificate, private, said in (
        (tmp_path / "none", key, r"`tls.certificate` of site `a`.*No such file"),
        (first, tmp_path / "none", r"`tls.key` of site `a`.*No such file"),
        (first, other, "the key is another certificate's"),
        (key, key, "cannot show"),
    ):
        with pytest.raises(DeclarationError, match=said):
            door_certificate.check("a", Certificate(certificate=certificate, key=private))
