"""API keys: `hk_<id>_<secret>`. The id is no secret; of the secret only a digest is kept.

The digest is SHA-1, the one that Envoy's basic authentication takes. For passwords that would be weak; a
secret here has 256 random bits, so that no digest of it can be tried out.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from models.card import Name
from models.errors import IntegrityError, UsageError
from models.files import locked, write_atomic
from models.home import home
from models.schema import Strict
from serving.fleet import DEFAULT_CLASS, Class, Role
from serving.identity.certificates import utc_now

_ID = "abcdefghijklmnopqrstuvwxyz234567"


class ApiKey(Strict):
    """What is kept of a key."""

    id: str
    tenant: Name
    roles: tuple[Role, ...] = ("infer",)
    highest_class: Class = DEFAULT_CLASS
    digest: str
    """SHA-1 of the secret, base64."""
    created: datetime
    revoked: datetime | None = None


def digest(secret: str) -> str:
    """As htpasswd's `{SHA}` has it: SHA-1, base64."""
    return base64.b64encode(hashlib.sha1(secret.encode(), usedforsecurity=False).digest()).decode()


class _Keys(Strict):
    keys: tuple[ApiKey, ...] = ()


class KeyStore:
    """A fleet's keys, in `$HEADEND_HOME/fleets/<fleet>/keys.json`; copy it to sites elsewhere."""

    def __init__(self, fleet: str) -> None:
        self.path: Path = home() / "fleets" / fleet / "keys.json"

    def read(self) -> tuple[ApiKey, ...]:
        """All keys, revoked ones too, in the order they were made. Raises `IntegrityError`."""
        try:
            return _Keys.model_validate_json(self.path.read_bytes()).keys
        except FileNotFoundError:
            return ()
        except (OSError, ValidationError) as error:
            raise IntegrityError(f"{self.path} cannot be read: {error}") from error

    def of(self, shown: str) -> ApiKey | None:
        """The record of a key that its holder shows, whose secret is not looked at; None: not known here."""
        return next((key for key in self.read() if shown.startswith(f"hk_{key.id}_")), None)

    def create(self, tenant: str, roles: Sequence[Role], highest_class: Class) -> tuple[ApiKey, str]:
        """A new key, and what its holder sends: it cannot be shown again."""
        secret = secrets.token_urlsafe(32)
        with self._lock():
            keys = self.read()
            taken = {key.id for key in keys}
            while (new := "".join(secrets.choice(_ID) for _ in range(10))) in taken:
                pass
            key = ApiKey(
                id=new,
                tenant=tenant,
                roles=tuple(dict.fromkeys(roles)),
                highest_class=highest_class,
                digest=digest(secret),
                created=utc_now(),
            )
            self._write((*keys, key))
        return key, f"hk_{key.id}_{secret}"

    def revoke(self, id: str) -> ApiKey:
        """Let a key count no more; its record stays. Raises `UsageError` when there is none of that id."""
        with self._lock():
            keys = self.read()
            found = next((key for key in keys if key.id == id and not key.revoked), None)
            if found is None:
                raise UsageError(f"There is no valid key `{id}`.", hint="See: headend keys list")
            gone = found.model_copy(update={"revoked": utc_now()})
            self._write(tuple(gone if key is found else key for key in keys))
        return gone

    def _lock(self) -> AbstractContextManager[None]:
        return locked(self.path.with_suffix(".lock"))

    def _write(self, keys: tuple[ApiKey, ...]) -> None:
        write_atomic(self.path, _Keys(keys=keys).model_dump_json(indent=1).encode(), mode=0o600)
