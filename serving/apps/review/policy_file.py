"""The policy in force: read again when its file changes, and never replaced by one that is not valid."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

from models.errors import DeclarationError
from serving.apps.review.policy import Policy
from serving.apps.review.terms import Matcher

_LOG = logging.getLogger(__name__)

PACKAGED = Path(__file__).with_name("policy.yaml")
_SETTLED_NS = 2_000_000_000
"""A file changed this recently is read again even if it looks the same: file times are coarse."""


@dataclass(frozen=True)
class Rules:
    """A valid policy, ready for use."""

    policy: Policy
    matcher: Matcher
    digest: str
    """sha256 of the file's bytes."""
    error: str = ""
    """Why a newer version of the file is not in force; empty when the file is."""

    @property
    def version(self) -> str:
        """The declared version and the beginning of the digest: `2025.1+sha256.1a2b3c4d5e6f`."""
        return f"{self.policy.version}+sha256.{self.digest[:12]}"


class PolicyFile:
    """Watches one file by looking at it when asked; safe to use from several threads."""

    def __init__(self, path: Path = PACKAGED) -> None:
        """Raises `DeclarationError` when the file is not a valid policy: there is none to fall back to."""
        self._path = path
        self._lock = threading.Lock()
        self._seen = _stamp(path)
        self._rules = _read(path, _bytes(path))

    def current(self) -> Rules:
        """The rules in force now. Touches the disk: call it from a thread."""
        with self._lock:
            stamp = _stamp(self._path)
            if stamp != self._seen:
                self._seen = stamp
                self._rules = self._next(self._rules)
            return self._rules

    def _next(self, rules: Rules) -> Rules:
        try:
            data = _bytes(self._path)
            if _digest(data) == rules.digest:
                return replace(rules, error="")
            rules = _read(self._path, data)
        except DeclarationError as error:
            if rules.error != str(error):
                _LOG.error("policy %s stays in force: %s", rules.version, error)
            return replace(rules, error=str(error))
        _LOG.info("policy %s is in force", rules.version)
        return rules


def _stamp(path: Path) -> tuple[int, ...]:
    """What tells one version of a file from the next, without reading it; empty when there is no file."""
    try:
        stat = path.stat()
    except OSError:
        return ()
    now = time.time_ns()
    fresh = now if now - stat.st_mtime_ns < _SETTLED_NS else 0
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, fresh


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DeclarationError(f"{path.name}: {error.strerror or error}") from error


def _read(path: Path, data: bytes) -> Rules:
    """Errors carry the file's name without its directory: clients see them in answers."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DeclarationError(f"{path.name} is not UTF-8 text: {error.reason}") from error
    policy = Policy.parse(text, where=path.name)
    return Rules(policy, policy.matcher(), _digest(data))
