"""Whose certificates this machine's own clients believe: the authorities that the machine trusts.

`SSL_CERT_FILE` names another file of them, for an authority of one's own.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import certifi

_SYSTEM_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
"""All authorities in one file, as Debian and Red Hat keep them; OpenSSL itself may look elsewhere."""


def authorities() -> str:
    """The machine's file, PEM; where it has none, that of the package `certifi`."""
    known = (ssl.get_default_verify_paths().cafile, *_SYSTEM_FILES)
    return next((path for path in known if path and Path(path).is_file()), None) or certifi.where()


def client_context(cafile: str | None = None) -> ssl.SSLContext:
    """For a client; `cafile` instead of the machine's file."""
    return ssl.create_default_context(cafile=cafile or authorities())
