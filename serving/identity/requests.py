"""Certificates for sites elsewhere: a site makes its key and a request, and the key never leaves it.

The key waits beside the one in use until its certificate comes; so a site can ask again, and asks for the
same. What comes is checked before anything changes.
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from models.errors import UsageError
from models.files import write_atomic
from serving.identity import certificates
from serving.identity.authority import Authority
from serving.identity.certificates import pem
from serving.identity.files import SiteIdentity, spiffe_id

_FILES = ("cert.pem", "ca.pem", "crl.pem")


def make(fleet: str, site: str, identity: SiteIdentity) -> bytes:
    """A request of `site`, PEM."""
    if not identity.next_key.is_file():
        identity.write_next_key(pem(certificates.new_key()))
    (key,) = certificates.read_keys(identity.next_key.read_bytes())
    return certificates.request(fleet, site, key)


def answer(authority: Authority, site: str, request: bytes, to: Path) -> None:
    """Write to the directory `to` what the site is to `accept`; none of it is secret."""
    issued = authority.sign(site, request)
    to.mkdir(parents=True, exist_ok=True)
    for name, content in zip(_FILES, (issued.certificate.encode(), *authority.trust()), strict=True):
        write_atomic(to / name, content)


def accept(fleet: str, site: str, identity: SiteIdentity, directory: Path) -> None:
    """Take the answer in `directory` for the identity of `site`, trust included: whoever carried it vouches
    for it. Raises `UsageError` when it is not the answer to the site's last request.
    """
    try:
        certificate, authorities, revoked = ((directory / name).read_bytes() for name in _FILES)
    except OSError as error:
        raise UsageError(
            f"{directory} does not hold {', '.join(_FILES)}: {error}.",
            hint=f"Where the authority is: headend fleet ca issue {site} --request FILE --to DIRECTORY",
        ) from error
    key = _key_of(fleet, site, identity, certificate, authorities)
    identity.write_trust(authorities, revoked)
    _take(identity, certificate, key)


def renew(fleet: str, site: str, identity: SiteIdentity, certificate: bytes) -> None:
    """Take a next certificate, of an authority that the site trusts already. Raises `UsageError`."""
    key = _key_of(fleet, site, identity, certificate, identity.authorities.read_bytes())
    _take(identity, certificate, key)


def _take(identity: SiteIdentity, certificate: bytes, key: bytes) -> None:
    identity.write_own(certificate, key)
    identity.next_key.unlink()


def _key_of(fleet: str, site: str, identity: SiteIdentity, certificate: bytes, authorities: bytes) -> bytes:
    """The waiting key, if `certificate` is what it waits for."""
    try:
        (waiting,) = certificates.read_keys(identity.next_key.read_bytes())
        found = x509.load_pem_x509_certificate(certificate)
        if not certificates.is_of(found, fleet, site):
            raise ValueError(f"it does not name {spiffe_id(fleet, site)}")
        if found.public_key() != waiting.public_key():
            raise ValueError("it is for another key than this site's last request")
        trusted = x509.load_pem_x509_certificates(authorities)
        issuer = next((each for each in trusted if each.subject == found.issuer), None)
        if issuer is None:
            raise ValueError("the authorities that come with it have not issued it")
        found.verify_directly_issued_by(issuer)
    except FileNotFoundError as error:
        raise UsageError(
            f"Site {site} waits for no certificate.", hint=f"headend fleet ca request {site} --to DIRECTORY"
        ) from error
    except (ValueError, TypeError, InvalidSignature) as error:
        raise UsageError(
            f"This certificate is not for site {site}: {str(error) or 'its signature is wrong'}.",
            hint=f"headend fleet ca request {site} --to DIRECTORY",
        ) from error
    return pem(waiting)
