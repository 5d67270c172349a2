"""X.509 as the fleet uses it (RFC 5280): authorities, site certificates, revocation lists.

Keys are ECDSA on P-256, because BoringSSL, and so Envoy, does not offer Ed25519 for certificates.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from serving.identity.files import server_name, spiffe_id

CLOCK_SLACK = timedelta(days=1)
"""A certificate is valid from this long before it was made: a site whose clock is behind still takes it."""

Key = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey


def new_key() -> Key:
    """A fresh private key."""
    return ec.generate_private_key(ec.SECP256R1())


def new_authority(fleet: str, key: Key, life: timedelta, now: datetime) -> x509.Certificate:
    """A self-signed authority; its name holds part of its serial, so that no two have the same."""
    serial = x509.random_serial_number()
    name = _name(f"{fleet[:40]} CA {serial:x}"[:64])
    usage = _usage(key_cert_sign=True, crl_sign=True)
    return (
        _builder(name, name, key.public_key(), serial, now, life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )


def site_certificate(
    fleet: str,
    site: str,
    public: ec.EllipticCurvePublicKey,
    authority: x509.Certificate,
    key: Key,
    life: timedelta,
    now: datetime,
) -> x509.Certificate:
    """A certificate of `site`, for both ends of a connection; it never outlives its authority."""
    life = min(life, authority.not_valid_after_utc - now)
    serial = x509.random_serial_number()
    both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return (
        _builder(_name(site), authority.subject, public, serial, now, life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(both), critical=False)
        .add_extension(_names(fleet, site), critical=False)
        .add_extension(issuer_key, critical=False)
        .sign(key, hashes.SHA256())
    )


def request(fleet: str, site: str, key: Key) -> bytes:
    """What `site` asks an authority to sign (PKCS #10, RFC 2986), PEM."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(site))
    made = builder.add_extension(_names(fleet, site), critical=False).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def requested(fleet: str, site: str, data: bytes) -> ec.EllipticCurvePublicKey:
    """The key that a request of `site` is for. Raises `ValueError` for any other request.

    Of what else it asks for, nothing is granted.
    """
    asked = x509.load_pem_x509_csr(data)
    key = asked.public_key()
    if not asked.is_signature_valid:
        raise ValueError("it is not signed by its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("its key is not one on P-256")
    if not is_of(asked, fleet, site):
        raise ValueError(f"it does not ask for {spiffe_id(fleet, site)}")
    return key


def is_of(what: x509.Certificate | x509.CertificateSigningRequest, fleet: str, site: str) -> bool:
    """Whether it names `site`."""
    try:
        names = what.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return spiffe_id(fleet, site) in names.get_values_for_type(x509.UniformResourceIdentifier)


def is_due(certificate: x509.Certificate) -> bool:
    """Whether a third or less of its life is left."""
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return certificate.not_valid_after_utc - utc_now() < life / 3


def revocation_list(
    authority: x509.Certificate, key: Key, serials: Iterable[int], now: datetime
) -> x509.CertificateRevocationList:
    """The authority's list of revoked `serials`.

    It does not expire before the authority does: an old list is better than a fleet that stands still.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.subject)
        .last_update(now - CLOCK_SLACK)
        .next_update(authority.not_valid_after_utc)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
    )
    for serial in sorted(serials):
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        builder = builder.add_revoked_certificate(revoked)
    return builder.sign(key, hashes.SHA256())


def pem(what: x509.Certificate | x509.CertificateRevocationList | Key) -> bytes:
    """PEM; a private key as PKCS #8, not encrypted."""
    if isinstance(what, ec.EllipticCurvePrivateKey):
        kind = serialization.PrivateFormat.PKCS8
        return what.private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption())
    return what.public_bytes(serialization.Encoding.PEM)


def read_keys(data: bytes) -> list[Key]:
    """Private keys that stand one after the other. Raises `ValueError` when one is not P-256's."""
    end = b"-----END PRIVATE KEY-----\n"
    keys = []
    for block in data.split(end)[:-1]:
        key = serialization.load_pem_private_key(block + end, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("a key of another kind than EC")
        keys.append(key)
    return keys


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    serial: int,
    now: datetime,
    life: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _names(fleet: str, site: str) -> x509.SubjectAlternativeName:
    name, host = spiffe_id(fleet, site), server_name(fleet, site)
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name), x509.DNSName(host)])


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(**given: bool) -> x509.KeyUsage:
    every = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: given.get(name, False) for name in every})


def utc_now() -> datetime:
    """The time, to the second, as certificates hold it."""
    return datetime.now(UTC).replace(microsecond=0)
