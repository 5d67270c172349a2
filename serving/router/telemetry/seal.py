"""Signatures on summaries: a relay passes them on, and can neither change nor invent one.

ECDSA on P-256 over SHA-256 of the summary's UTF-8 text (FIPS 186-5), by the key that the site shows to other
sites; its certificate travels along, and counts while one of the fleet's authorities has issued it, it has
neither expired nor been revoked, and it names the site.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import OrderedDict
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from serving.identity import SiteIdentity
from serving.identity.certificates import is_of
from serving.router.telemetry.message import RefusedError, Signed

_HOW = ec.ECDSA(hashes.SHA256())
_MOST_REMEMBERED = 4096


class IdentitySeal:
    """Of a site with an identity. Make it anew after the identity's files have changed.

    Raises `OSError` or `ValueError` when they cannot be read.
    """

    def __init__(self, fleet: str, identity: SiteIdentity) -> None:
        self._fleet = fleet
        key = load_pem_private_key(identity.key.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{identity.key} holds a key of another kind than EC")
        self._key = key
        self._certificate = identity.certificate.read_text("ascii")
        self._authorities = x509.load_pem_x509_certificates(identity.authorities.read_bytes())
        self._revoked = _revoked(identity.revoked.read_bytes())
        self._checked: OrderedDict[tuple[str, str], x509.Certificate] = OrderedDict()

    def sign(self, summary: str) -> Signed:
        """The summary with this site's signature and certificate."""
        signature = self._key.sign(summary.encode(), _HOW)
        return Signed(summary=summary, certificate=self._certificate, signature=b64encode(signature).decode())

    def check(self, signed: Signed, site: str) -> None:
        """Raises `RefusedError` unless `site` has signed it."""
        try:
            certificate = self._certificate_of(signed.certificate, site)
            key = certificate.public_key()
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise ValueError("its key is of another kind than EC")
            key.verify(b64decode(signed.signature, validate=True), signed.summary.encode(), _HOW)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise RefusedError(
                "signature", f"{site} has not signed it: {str(error) or 'wrong signature'}"
            ) from error

    def _certificate_of(self, pem: str, site: str) -> x509.Certificate:
        """The same certificate comes twice a second: its issuer's signature is checked once."""
        certificate = self._checked.get((site, pem))
        if certificate is None:
            certificate = x509.load_pem_x509_certificate(pem.encode())
            self._believe(certificate, site)
            self._checked[site, pem] = certificate
            if len(self._checked) > _MOST_REMEMBERED:
                self._checked.popitem(last=False)
        if not certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc:
            raise ValueError("its certificate has expired, or is not valid yet")
        return certificate

    def _believe(self, certificate: x509.Certificate, site: str) -> None:
        if not is_of(certificate, self._fleet, site):
            raise ValueError("its certificate is another site's")
        issuer = next((each for each in self._authorities if each.subject == certificate.issuer), None)
        if issuer is None:
            raise ValueError("its certificate is not of an authority of this fleet")
        certificate.verify_directly_issued_by(issuer)
        if (certificate.issuer, certificate.serial_number) in self._revoked:
            raise ValueError("its certificate has been revoked")


def _revoked(lists: bytes) -> set[tuple[x509.Name, int]]:
    end = b"-----END X509 CRL-----\n"
    found = set()
    for block in lists.split(end)[:-1]:
        revocations = x509.load_pem_x509_crl(block + end)
        found |= {(revocations.issuer, each.serial_number) for each in revocations}
    return found
