"""Writes that survive a kill, and digests of what was written."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.errors import HeadendError


def canonical_json(value: Any) -> bytes:
    """JSON with one spelling per value (sorted keys, no spaces, UTF-8), so that a digest of it means
    something.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest(data: bytes) -> str:
    """Hexadecimal sha256."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hexadecimal sha256 of a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digests(root: Path) -> dict[str, str]:
    """sha256 of every regular file below `root` by its relative path with `/`; large trees use all cores."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    with ThreadPoolExecutor() as pool:
        sums = list(pool.map(sha256_file, paths))
    return {path.relative_to(root).as_posix(): sum_ for path, sum_ in zip(paths, sums, strict=True)}


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that a reader, or a machine that lost power, sees the old contents or the new, never a
    mix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as file:
            os.fchmod(fd, mode)
            file.write(data)
            file.flush()
            os.fsync(fd)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync(path.parent)


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """A directory to fill that becomes `target` at once and durably when the block ends well.

    What stood at `target` before is replaced. A kill leaves at most a hidden `.new-…` sibling, removed by the
    next writer of the same target.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.parent / f".{target.name}.lock"):
        for left in target.parent.glob(f".new-{target.name}-*"):
            shutil.rmtree(left)
        fresh = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".new-{target.name}-"))
        try:
            yield fresh
            fresh.chmod(0o755)
            for path in fresh.rglob("*"):
                _sync(path)
            _sync(fresh)
            _take_place(fresh, target)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise


def _take_place(fresh: Path, target: Path) -> None:
    if not target.exists():
        fresh.replace(target)
    else:
        old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".new-{target.name}-"))
        target.replace(old / "old")
        fresh.replace(target)
        shutil.rmtree(old)
    _sync(target.parent)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def locked(path: Path, *, busy: str = "") -> Iterator[None]:
    """Hold an exclusive lock on the file `path`; the kernel lets go when the process dies.

    Waits for another holder, or, given `busy`, raises `HeadendError` with that message.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            raise HeadendError(busy, hint="Wait for it to end, or end it.") from None
        yield
