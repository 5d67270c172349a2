"""Certificates of servers that are no sites of a fleet, from an authority of the test's own."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from serving.identity import certificates


class ServerAuthority:
    """`path`: its certificate, PEM."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = certificates.new_key()
        self._own = certificates.new_authority("tests", self._key, timedelta(days=1), _now())
        self.path = directory / "authority.pem"
        self.path.write_bytes(certificates.pem(self._own))

    def issue(self, name: str, *hosts: str) -> tuple[Path, Path]:
        """Files NAME.pem and NAME.key: a certificate for `hosts`, names or IP addresses, and its key."""
        key = certificates.new_key()
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(self._own.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_now() - timedelta(days=1))
            .not_valid_after(_now() + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([_named(host) for host in hosts]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._public), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        certificate, private = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        certificate.write_bytes(certificates.pem(made))
        private.write_bytes(certificates.pem(key))
        return certificate, private

    @property
    def _public(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """For a server that shows `certificate`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def _named(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _now() -> datetime:
    return datetime.now(UTC)
