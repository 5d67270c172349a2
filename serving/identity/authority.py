"""The fleet's certificate authority: files in one directory, changed under a lock.

`ca.key` holds the authorities, each with its private key, the one that signs first; `ca.pem` (their
certificates) and `crl.pem` (a revocation list of each) are derived from it and from `register.json`, which
says what was issued and revoked. Private keys never leave the directory. A rotation has three steps,
because a site must trust an authority before it meets a certificate of it: trust the new one beside the
old, issue all sites new certificates, trust the new one alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from pydantic import ValidationError

from models.errors import HeadendError, IntegrityError, UsageError
from models.files import locked, write_atomic
from serving.identity import certificates
from serving.identity.certificates import Key, PublicKey, pem, utc_now
from serving.identity.files import SiteIdentity, authority_directory
from serving.identity.register import Issued, Register, Step

AUTHORITY_LIFE = timedelta(days=3650)
SITE_LIFE = timedelta(days=30)
"""Short, so that a stolen key is of little use even where nobody noticed; renewed when a third is left."""


@dataclass(frozen=True)
class _Signer:
    certificate: x509.Certificate
    key: Key

    @property
    def serial(self) -> str:
        return f"{self.certificate.serial_number:x}"


class Authority:
    """A fleet's authority. Raises `UsageError` when there is none, `IntegrityError` when it is damaged."""

    def __init__(self, fleet: str) -> None:
        self.fleet = fleet
        self.path = authority_directory(fleet)
        self._signers = self._read_signers()
        self.register = self._read_register()

    @staticmethod
    def exists(fleet: str) -> bool:
        """Whether the fleet's authority is kept on this machine."""
        return (authority_directory(fleet) / "ca.key").is_file()

    @classmethod
    def make(cls, fleet: str, life: timedelta = AUTHORITY_LIFE) -> Authority:
        """Found a fleet's authority. Raises `UsageError` when there is one already."""
        path = authority_directory(fleet)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(path / "authority.lock"):
            if cls.exists(fleet):
                raise UsageError(
                    f"Fleet {fleet} has a certificate authority already: {path}",
                    hint="To replace it without an interruption: headend fleet ca rotate",
                )
            _write(path, [_new_signer(fleet, life)], Register())
        return cls(fleet)

    @property
    def authorities(self) -> list[x509.Certificate]:
        """The authorities that sites trust, the one that signs first."""
        return [signer.certificate for signer in self._signers]

    def issue(self, site: str, to: SiteIdentity, life: timedelta = SITE_LIFE) -> Issued:
        """Write a new key and certificate of `site`, and whom it is to trust. Earlier ones stay valid."""
        with self._changing():
            issued = self._issue(site, to, life)
        return issued

    def sign(self, site: str, request: bytes, life: timedelta = SITE_LIFE) -> Issued:
        """A certificate for the key of a request that a person has brought from `site`; it takes the site in
        again if it was revoked. Raises `UsageError` for a request that is not one of `site`.
        """
        key = self._requested(site, request)
        with self._changing():
            return self._certify(site, key, life)

    def sign_next(self, site: str, shown: int, request: bytes) -> Issued:
        """The next certificate for `site`, which asks by itself and has shown the one with serial `shown`.

        Only the newest one can be exchanged for another, in the last third of its life: two who have a site's
        key cannot both renew it, and the second is told so. The same request gets the same answer once more.
        Raises `HeadendError` where it gets none.
        """
        key = self._requested(site, request)
        with self._changing():
            issued = self.register.of(site)
            if site in self.register.barred or not issued:
                raise HeadendError(f"The identity of site {site} was revoked, or never issued here.")
            newest = issued[-1]
            text = newest.certificate.encode()
            found = x509.load_pem_x509_certificate(text) if text else None
            if found is not None and found.public_key() == key:
                return newest
            if int(newest.serial, 16) != shown:
                raise HeadendError(
                    f"Site {site} has got a newer certificate than the one it shows: somebody else may have "
                    "its key.",
                    hint=f"If that was not you: headend fleet ca revoke {site}",
                )
            if found is not None and not certificates.is_due(found):
                raise HeadendError(f"The certificate of site {site} is not due yet.")
            return self._certify(site, key, SITE_LIFE)

    def revoke(self, site: str) -> int:
        """Revoke every certificate of `site` that has not expired; returns how many there were.

        The lists of the sites on this machine are replaced at once (see `distribute`).
        """
        with self._changing():
            now, count = utc_now(), 0
            changed = []
            for each in self.register.issued:
                if each.site == site and each.revoked is None:
                    each, count = each.model_copy(update={"revoked": now}), count + 1
                changed.append(each)
            self._save(issued=tuple(changed), barred=self.register.barred | {site})
        return count

    def rotate(self, sites: Sequence[str], life: timedelta = AUTHORITY_LIFE) -> Step:
        """Do the next step of replacing the authority; returns which it was.

        `sites`: those on this machine, which get new files as the step asks. Raises `UsageError` when the old
        authority is still needed: a site elsewhere has no certificate of the new one.
        """
        with self._changing():
            step = self.register.next_step
            match step:
                case "trust":
                    self._signers = [*self._signers, _new_signer(self.fleet, life)]
                    self._save(next_step="issue")
                case "issue":
                    self._signers = self._signers[::-1]
                    self._save(next_step="finish")
                    for site in sites:
                        if site not in self.register.barred:
                            self._issue(site, SiteIdentity.of(self.fleet, site), SITE_LIFE)
                case "finish":
                    self._check_nobody_needs(self._signers[1:])
                    self._signers = self._signers[:1]
                    self._save(next_step="trust")
        return step

    def distribute(self, sites: Sequence[str]) -> None:
        """Give the sites on this machine the authorities and lists as they are now."""
        for site in sites:
            if (identity := SiteIdentity.of(self.fleet, site)).exists:
                identity.write_trust(*self.trust())

    def renew(self, site: str) -> Issued | None:
        """Issue `site` a certificate where it has none, or a third or less of its life is left; else None.

        Raises `HeadendError` when the site was revoked: only a person may take it in again (`issue`).
        """
        identity = SiteIdentity.of(self.fleet, site)
        if site in self.register.barred:
            raise HeadendError(
                f"The identity of site {site} was revoked.",
                hint=f"To take it in again: headend fleet ca issue {site}",
            )
        if identity.exists and not _is_due(identity):
            identity.write_trust(*self.trust())
            return None
        return self.issue(site, identity)

    def _issue(self, site: str, to: SiteIdentity, life: timedelta) -> Issued:
        key = certificates.new_key()
        issued = self._certify(site, key.public_key(), life)
        to.write_trust(*self.trust())
        to.write_own(issued.certificate.encode(), pem(key))
        return issued

    def _certify(self, site: str, key: PublicKey, life: timedelta) -> Issued:
        signer = self._signers[0]
        made = certificates.site_certificate(
            self.fleet, site, key, signer.certificate, signer.key, life, utc_now()
        )
        issued = Issued(
            site=site,
            serial=f"{made.serial_number:x}",
            authority=signer.serial,
            expires=made.not_valid_after_utc,
            certificate=pem(made).decode("ascii"),
        )
        # Written down before anybody has it: a certificate nobody remembers could never be revoked.
        self._save(issued=(*self.register.issued, issued), barred=self.register.barred - {site})
        return issued

    def _requested(self, site: str, request: bytes) -> PublicKey:
        try:
            return certificates.requested(self.fleet, site, request)
        except ValueError as error:
            raise UsageError(
                f"This is no request of site {site}: {error}.",
                hint=f"Make one there: headend fleet ca request {site} --to DIRECTORY",
            ) from error

    def _check_nobody_needs(self, signers: Sequence[_Signer]) -> None:
        old = {signer.serial for signer in signers}
        newest = {each.site: each for each in self.register.issued}
        waiting = [name for name, each in newest.items() if each.authority in old and not each.revoked]
        if waiting:
            raise UsageError(
                f"Sites that still show a certificate of the old authority: {', '.join(sorted(waiting))}.",
                hint="Their agents ask for new ones in time; sooner: headend fleet ca request, there.",
            )

    def trust(self) -> tuple[bytes, bytes]:
        """The authorities that sites trust, and their revocation lists, PEM."""
        return (self.path / "ca.pem").read_bytes(), (self.path / "crl.pem").read_bytes()

    def _save(self, **changes: object) -> None:
        """Write everything, the register with `changes`."""
        register = self.register.model_copy(update=changes)
        known = {signer.serial for signer in self._signers}
        kept = (each for each in register.issued if each.expires > utc_now() and each.authority in known)
        self.register = register.model_copy(update={"issued": tuple(kept)})
        _write(self.path, self._signers, self.register)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the authority's lock, and see what others changed before."""
        with locked(self.path / "authority.lock"):
            self._signers, self.register = self._read_signers(), self._read_register()
            yield

    def _read_signers(self) -> list[_Signer]:
        try:
            text = (self.path / "ca.key").read_bytes()
            pairs = zip(x509.load_pem_x509_certificates(text), certificates.read_keys(text), strict=True)
            return [_Signer(certificate, key) for certificate, key in pairs]
        except FileNotFoundError:
            raise UsageError(
                f"Fleet {self.fleet} has no certificate authority on this machine.",
                hint="Make one: headend fleet ca make",
            ) from None
        except ValueError as error:
            raise IntegrityError(f"The certificate authority in {self.path} is damaged: {error}") from error

    def _read_register(self) -> Register:
        try:
            return Register.model_validate_json((self.path / "register.json").read_bytes())
        except (OSError, ValidationError) as error:
            raise IntegrityError(f"{self.path / 'register.json'} cannot be read: {error}") from error


def _is_due(identity: SiteIdentity) -> bool:
    try:
        return certificates.is_due(identity.read_certificate())
    except ValueError:
        return True


def _new_signer(fleet: str, life: timedelta) -> _Signer:
    key = certificates.new_key()
    return _Signer(certificates.new_authority(fleet, key, life, utc_now()), key)


def _write(path: Path, signers: Sequence[_Signer], register: Register) -> None:
    """What the rest is derived from first."""
    now = utc_now()
    write_atomic(path / "register.json", register.model_dump_json(indent=1).encode(), mode=0o600)
    pairs = [pem(signer.key) + pem(signer.certificate) for signer in signers]
    write_atomic(path / "ca.key", b"".join(pairs), mode=0o600)
    lists = [
        certificates.revocation_list(signer.certificate, signer.key, _revoked(register, signer), now)
        for signer in signers
    ]
    write_atomic(path / "crl.pem", b"".join(pem(each) for each in lists))
    write_atomic(path / "ca.pem", b"".join(pem(signer.certificate) for signer in signers))


def _revoked(register: Register, signer: _Signer) -> list[int]:
    return [
        int(each.serial, 16) for each in register.issued if each.revoked and each.authority == signer.serial
    ]
