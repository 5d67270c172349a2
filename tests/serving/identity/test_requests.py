"""A site elsewhere gets its certificate by a request: its key never leaves it, and nothing else is taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner

from models.errors import HeadendError, UsageError
from serving.cli import app
from serving.identity import Authority, SiteIdentity, certificates, client_context, requests, spiffe_id

FLEET = "{fleet: f, models: {}, sites: {hub: {front_door: '127.0.0.1:1'}, van: {front_door: '127.0.0.1:3'}}}"
SHORT = timedelta(hours=1)
"""Of a certificate that is due at once: with the slack for clocks it has lived for a day already."""


class Machines:
    """The authority's and the site's, each with a home of its own."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self._root, self._patch = root, patch
        with self.on("hub"):
            self.authority = Authority.make("f")
            self.authority.renew("hub")

    @contextmanager
    def on(self, machine: str) -> Iterator[SiteIdentity]:
        with self._patch.context() as patch:
            patch.setenv("HEADEND_HOME", str(self._root / machine))
            yield SiteIdentity.of("f", machine)

    def request(self) -> bytes:
        with self.on("van") as van:
            return requests.make("f", "van", van)

    def answer(self, request: bytes, life: timedelta | None = None) -> Path:
        usb = self._root / "usb"
        with self.on("hub"):
            requests.answer(self.authority, "van", request, usb)
            if life:
                issued = self.authority.sign("van", request, life)
                (usb / "cert.pem").write_text(issued.certificate)
        return usb

    def accept(self, usb: Path) -> None:
        with self.on("van") as van:
            requests.accept("f", "van", van, usb)


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    return Machines(tmp_path, monkeypatch)


def private(directory: Path) -> list[str]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return [path.name for path in files if b"PRIVATE" in path.read_bytes()]


def test_commands_carry_no_key(tmp_path: Path, machines: Machines) -> None:
    fleet, usb = tmp_path / "fleet.yaml", tmp_path / "usb"
    fleet.write_text(FLEET)

    def run(machine: str, *arguments: object) -> str:
        with machines.on(machine):
            done = CliRunner().invoke(app, ["fleet", "ca", *map(str, arguments), "-f", str(fleet)])
        assert done.exit_code == 0, done.exception
        return done.output

    for _ in range(2):  # and once more, as a renewal by hand
        assert "fleet ca issue van --request" in run("van", "request", "van", "--to", usb)
        assert "fleet ca accept van" in run("hub", "issue", "van", "--request", usb / "van.csr", "--to", usb)
        run("van", "accept", "van", usb)
        assert private(usb) == []
        with machines.on("van") as van:
            client_context(van)
            assert certificates.is_of(van.read_certificate(), "f", "van")
            assert sorted(private(van.path)) == ["key.pem"]
    with machines.on("hub") as hub:
        assert not (hub.path.parents[1] / "van").exists()
        assert len(Authority("f").register.of("van")) == 2
        done = CliRunner().invoke(app, ["fleet", "ca", "issue", "van", "--to", str(usb), "-f", str(fleet)])
        assert "fleet ca request van" in done.exception.hint  # type: ignore[union-attr]


def test_what_is_no_request_of_the_site_is_not_signed(machines: Machines) -> None:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "van")])
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe_id("f", "van"))])
    weak = x509.CertificateSigningRequestBuilder().subject_name(name).add_extension(names, critical=False)
    request = machines.request()
    for wrong, said in (
        (b"nonsense", "no request of site van"),
        (request[:-60], "no request of site van"),
        (weak.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM), "P-256"),
        (certificates.request("f", "hub", certificates.new_key()), "does not ask for"),
        (certificates.request("g", "van", certificates.new_key()), "does not ask for"),
        (request[:300] + (b"A" if request[300:301] != b"A" else b"B") + request[301:], "van"),
    ):
        with machines.on("hub"), pytest.raises(UsageError, match=said):
            machines.authority.sign("van", wrong)
    assert machines.authority.register.of("van") == []


def test_only_the_answer_to_the_last_request_is_accepted(machines: Machines, tmp_path: Path) -> None:
    usb = machines.answer(machines.request())
    good = {path.name: path.read_bytes() for path in usb.iterdir()}
    with machines.on("other"):
        stranger = Authority.make("f").sign("van", machines.request())
    with machines.on("hub"):
        hub = machines.authority.sign("hub", certificates.request("f", "hub", certificates.new_key()))
        other = machines.authority.sign("van", certificates.request("f", "van", certificates.new_key()))
    for certificate, said in (
        ("nonsense", "not for site van"),
        (hub.certificate, "does not name"),
        (other.certificate, "another key"),
        (stranger.certificate, "have not issued it"),
    ):
        (usb / "cert.pem").write_text(certificate)
        with pytest.raises(UsageError, match=said):
            machines.accept(usb)
        with machines.on("van") as van:
            assert not van.exists
    (usb / "cert.pem").write_bytes(good["cert.pem"])
    machines.accept(usb)
    with pytest.raises(UsageError, match="waits for no certificate"):
        machines.accept(usb)
    with pytest.raises(UsageError, match="does not hold"):
        machines.accept(tmp_path)


def test_the_next_certificate_goes_to_whoever_has_the_newest_one_and_to_nobody_else(
    machines: Machines,
) -> None:
    machines.accept(machines.answer(machines.request(), SHORT))
    authority = machines.authority
    shown = int(authority.register.of("van")[-1].serial, 16)
    thief = certificates.request("f", "van", certificates.new_key())
    with machines.on("hub"):
        issued = authority.sign_next("van", shown, machines.request())
        # The answer was lost, and the request comes again.
        assert authority.sign_next("van", shown, machines.request()) == issued
        with pytest.raises(HeadendError, match="somebody else may have its key"):
            authority.sign_next("van", shown, thief)
        with pytest.raises(HeadendError, match="not due yet"):
            authority.sign_next("van", int(issued.serial, 16), thief)
        with pytest.raises(UsageError, match="does not ask for"):
            authority.sign_next("hub", shown, thief)
        authority.revoke("van")
        with pytest.raises(HeadendError, match="revoked"):
            authority.sign_next("van", shown, machines.request())
    with machines.on("van") as van:
        requests.renew("f", "van", van, issued.certificate.encode())
        assert van.read_certificate().serial_number == int(issued.serial, 16)
        assert not van.next_key.exists()
