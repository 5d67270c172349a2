"""Where identities are kept, and what sites are called in them.

`$HEADEND_HOME/fleets/<fleet>/ca/` stands only where the authority is kept; each site has
`$HEADEND_HOME/fleets/<fleet>/<site>/identity/` with its certificate, its key, the authorities it trusts and
their revocation lists. Every file is replaced in one step; Envoy watches the directory and takes it up.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from models.files import write_atomic
from models.home import home


def spiffe_id(fleet: str, site: str) -> str:
    """The name of a site in its certificate (https://github.com/spiffe/spiffe, SPIFFE-ID)."""
    return f"spiffe://{fleet}/site/{site}"


def server_name(fleet: str, site: str) -> str:
    """The same as a host name: what a client that dials the site checks, and sends as SNI."""
    return f"{site}.{fleet}.headend"


def authority_directory(fleet: str) -> Path:
    """Where the fleet's authority is kept."""
    return home() / "fleets" / fleet / "ca"


@dataclass(frozen=True)
class SiteIdentity:
    """The files of one site's identity."""

    path: Path

    @classmethod
    def of(cls, fleet: str, site: str) -> SiteIdentity:
        """Those of a site on this machine."""
        return cls(home() / "fleets" / fleet / site / "identity")

    @property
    def certificate(self) -> Path:
        """The site's own certificate, PEM."""
        return self.path / "cert.pem"

    @property
    def key(self) -> Path:
        """Its private key and the certificate once more, PEM, mode 0600: a pair that changes in one step."""
        return self.path / "key.pem"

    @property
    def next_key(self) -> Path:
        """A key that waits for its certificate, PEM, mode 0600."""
        return self.path / "next-key.pem"

    @property
    def authorities(self) -> Path:
        """Certificates of all authorities that the fleet trusts, PEM."""
        return self.path / "ca.pem"

    @property
    def revoked(self) -> Path:
        """Their revocation lists, PEM."""
        return self.path / "crl.pem"

    @property
    def exists(self) -> bool:
        """Whether all its files are there."""
        return all(path.is_file() for path in (self.certificate, self.key, self.authorities, self.revoked))

    def read_certificate(self) -> x509.Certificate:
        """The site's own certificate. Raises `OSError` or `ValueError` when there is none to be read."""
        return x509.load_pem_x509_certificate(self.certificate.read_bytes())

    def write_own(self, certificate: bytes, key: bytes) -> None:
        """Replace certificate and key."""
        self._create()
        write_atomic(self.key, key + certificate, mode=0o600)
        write_atomic(self.certificate, certificate)

    def write_trust(self, authorities: bytes, revoked: bytes) -> None:
        """Replace what the site believes others by. Unchanged files are left alone.

        Every trusted authority needs its list, so a list comes before the authority that it belongs to.
        """
        self._create()
        for path, data in ((self.revoked, revoked), (self.authorities, authorities)):
            if not path.is_file() or path.read_bytes() != data:
                write_atomic(path, data)

    def write_next_key(self, key: bytes) -> None:
        """Keep a key until its certificate comes."""
        self._create()
        write_atomic(self.next_key, key, mode=0o600)

    def _create(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)


def client_context(identity: SiteIdentity) -> ssl.SSLContext:
    """For a client of other sites' peer listeners: shows this site's certificate, checks theirs.

    Dial with `server_name` of the other site as the host name to be checked. Make it anew after the files
    have changed.
    """
    context = ssl.create_default_context(cafile=str(identity.authorities))
    context.load_cert_chain(identity.key)
    context.load_verify_locations(identity.revoked)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    return context
