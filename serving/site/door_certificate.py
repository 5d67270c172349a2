"""The certificate that a front door shows to its clients, looked at before Envoy is."""

from __future__ import annotations

import ssl
from datetime import datetime

from cryptography import x509

from models.errors import DeclarationError
from serving.fleet import Certificate


def check(site: str, files: Certificate) -> datetime:
    """Until when it is valid. Raises `DeclarationError` when the files cannot be used."""
    for name, path in (("certificate", files.certificate), ("key", files.key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise DeclarationError(
                f"`tls.{name}` of site `{site}`, {path}, cannot be read: {error.strerror}."
            ) from error
    try:
        # A passphrase that is wrong, so that none is asked for at the terminal.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.certificate, files.key, password=lambda: "-")
        return x509.load_pem_x509_certificates(files.certificate.read_bytes())[0].not_valid_after_utc
    except (ssl.SSLError, ValueError) as error:
        said = "the key is another certificate's" if "MISMATCH" in str(error) else str(error)
        raise DeclarationError(
            f"Site `{site}` cannot show {files.certificate} with the key {files.key}: {said}.",
            hint="Both are PEM files; the key has no passphrase.",
        ) from error
