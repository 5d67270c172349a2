"""Who made a bundle: Ed25519 (RFC 8032) signatures of its manifest, and the keys this machine trusts.

`$HEADEND_HOME/keys/signing.pem` signs when it is there; otherwise a development key is made on first use.
Every public key in `keys/trusted/*.pub` (PEM) is trusted. The development key proves only that bytes did not
change since this machine signed them; a fleet makes a key of its own, keeps the private half where it builds
and gives the public half to every site:

    openssl genpkey -algorithm ed25519 -out $HEADEND_HOME/keys/signing.pem
    openssl pkey -in $HEADEND_HOME/keys/signing.pem -pubout -out NAME.pub   # into keys/trusted/ of every site
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from models.errors import HeadendError, IntegrityError
from models.files import canonical_json, digest, locked, write_atomic
from models.home import home

DEVELOPMENT_NOTICE = (
    "signed with a development key made on this machine: good for trying out, not proof of who built it"
)


@dataclass(frozen=True)
class Signer:
    """A private key and what to call it."""

    key: Ed25519PrivateKey
    development: bool

    @property
    def key_id(self) -> str:
        """First 16 hexadecimal digits of the sha256 of the raw public key."""
        return key_id(self.key.public_key())

    def sign(self, data: bytes) -> bytes:
        """The contents of `manifest.sig`. Ed25519 signatures are deterministic: the same data, the same
        bytes.
        """
        signature = base64.b64encode(self.key.sign(data)).decode()
        return canonical_json({"algorithm": "ed25519", "key": self.key_id, "signature": signature})


@dataclass(frozen=True)
class Trust:
    """Public keys whose signatures count, by key id."""

    keys: dict[str, Ed25519PublicKey]
    development: str | None = None
    """Key id of this machine's development key, if it has one."""

    def verify(self, data: bytes, signature: bytes, what: str) -> str:
        """The id of the trusted key that signed `data`. Raises `IntegrityError`, calling the signature
        `what`.
        """
        try:
            said = json.loads(signature)
            signer, value = str(said["key"]), base64.b64decode(said["signature"], validate=True)
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            raise IntegrityError(f"{what} is not a signature: {error}") from error
        if signer not in self.keys:
            raise IntegrityError(
                f"{what} was made with key {signer}, which this machine does not trust.",
                hint=f"If you know whose key it is, put its public half into {trusted_keys()} as NAME.pub.",
            )
        try:
            self.keys[signer].verify(value, data)
        except InvalidSignature:
            raise IntegrityError(f"{what} does not match what it signs (key {signer}).") from None
        return signer


def key_id(key: Ed25519PublicKey) -> str:
    """First 16 hexadecimal digits of the sha256 of the raw public key."""
    return digest(key.public_bytes_raw())[:16]


def trusted_keys() -> Path:
    """The directory of trusted public keys."""
    return home() / "keys" / "trusted"


def load_signer() -> Signer:
    """The key that signs here: `keys/signing.pem`, or the development key, made (mode 0600) on first use."""
    directory = home() / "keys"
    directory.mkdir(mode=0o700, exist_ok=True)
    own = directory / "signing.pem"
    if own.exists():
        return Signer(_private(own), development=False)
    path = directory / "development.pem"
    with locked(directory / ".lock"):
        if not path.exists():
            pem = Ed25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            write_atomic(path, pem, mode=0o600)
    return Signer(_private(path), development=True)


def load_trust() -> Trust:
    """The keys trusted here: `keys/trusted/*.pub`, and the public halves of this machine's own private
    keys.
    """
    keys = {key_id(key): key for key in map(_public, sorted(trusted_keys().glob("*.pub")))}
    development = None
    for name in ("signing", "development"):
        path = home() / "keys" / f"{name}.pem"
        if path.exists():
            public = _private(path).public_key()
            keys[key_id(public)] = public
            if name == "development":
                development = key_id(public)
    return Trust(keys, development)


def _private(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise HeadendError(f"{path} is not a PEM private key without a password: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise HeadendError(
            f"{path} is not an Ed25519 key.", hint="Make one: openssl genpkey -algorithm ed25519"
        )
    return key


def _public(path: Path) -> Ed25519PublicKey:
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise HeadendError(f"{path} is not a PEM public key: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise HeadendError(f"{path} is not an Ed25519 public key.")
    return key
