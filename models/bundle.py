"""What ships: an immutable directory named by the sha256 of its manifest, signed, and verified before every
use.

`manifest.json` lists the sha256 and size of every other file but `manifest.sig`, which signs the manifest.
The manifest holds no times and no machine's name, so the same contents have the same digest everywhere.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.card import Card, Precision
from models.errors import DeclarationError, IntegrityError, UsageError
from models.files import canonical_json, digest, new_directory, sha256_file, tree_digests, write_atomic
from models.home import home
from models.recorded import Recorded, read
from models.signing import Signer, Trust, load_trust

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
FORMAT = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SAFE_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


@dataclass(frozen=True)
class Bundle:
    """A verified bundle on this machine."""

    path: Path
    digest: str
    card: Card
    signed_by: str
    """Key id."""
    development: bool
    """Signed with this machine's development key."""

    def file(self, name: str) -> Path:
        """One of the card's other files. Raises `UsageError` if the bundle has no such file."""
        return self._have(f"files/{name}", f"file `{name}`")

    def graph(self, graph: str, precision: Precision) -> Path:
        """One graph at one precision. Raises `UsageError` if the bundle has no such variant."""
        return self._have(f"graphs/{precision}/{graph}.onnx", f"graph `{graph}` in {precision}")

    def parity(self) -> dict[str, Any]:
        """The report of the parity gate."""
        found: dict[str, Any] = json.loads((self.path / "parity.json").read_bytes())
        return found

    def recorded(self) -> list[Recorded]:
        """Some recorded inputs of each graph, with the source's outputs."""
        return list(read(self.path / "cases"))

    def _have(self, relative: str, what: str) -> Path:
        path = self.path / relative
        if not path.is_file():
            raise UsageError(
                f"The bundle of {self.card.name} has no {what}.",
                hint=f"Its card has precisions {', '.join(self.card.precisions)} and files "
                f"{', '.join(self.card.files) or 'none'}.",
            )
        return path


def manifest_of(contents: Path, card: Card) -> bytes:
    """The canonical manifest of a directory."""
    sums = tree_digests(contents)
    files = {path: {"sha256": sum_, "size": (contents / path).stat().st_size} for path, sum_ in sums.items()}
    return canonical_json({"format": FORMAT, "name": card.name, "version": card.version, "files": files})


def write_bundle(contents: Path, card: Card, signer: Signer, into: Path) -> Path:
    """Copy `contents` (card.yaml, graphs/, files/, cases/, parity.json) to `into/<digest>`, with manifest and
    signature.

    A sound bundle that is there already stays: something may be serving it.
    """
    manifest = manifest_of(contents, card)
    target = into / digest(manifest)
    if is_sound(target, target.name):
        return target
    with new_directory(target) as fresh:
        shutil.copytree(contents, fresh, dirs_exist_ok=True)
        (fresh / MANIFEST).write_bytes(manifest)
        (fresh / SIGNATURE).write_bytes(signer.sign(manifest))
    return target


def is_sound(path: Path, expected: str) -> bool:
    """Whether a whole bundle of this digest, signed by a trusted key, stands at `path`."""
    try:
        open_bundle(path, expected)
    except IntegrityError:
        return False
    return True


def open_bundle(path: Path, expected: str, *, trust: Trust | None = None, full: bool = False) -> Bundle:
    """Verify the bundle at `path` and open it.

    The manifest's digest and signature and the list of files are checked every time. Contents are hashed the
    first time, and again whenever a file's size, inode, modification or change time is not what it was when
    it was last hashed on this machine; `full` hashes them regardless. Raises `IntegrityError` naming the
    first bad file.
    """
    trust = trust or load_trust()
    manifest = _read(path, MANIFEST)
    if (found := digest(manifest)) != expected:
        raise IntegrityError(f"{path / MANIFEST} has digest {found}, expected {expected}.", hint=_HINT)
    signed_by = trust.verify(manifest, _read(path, SIGNATURE), str(path / SIGNATURE))
    files = _listed(path, manifest)
    seen = dict(_walk(path, files))
    memo = home() / "cache" / "verified" / f"{expected}.json"
    marks = {name: [list(mark), files[name]["sha256"]] for name, mark in sorted(seen.items())}
    state = canonical_json(marks)
    if full or not memo.is_file() or memo.read_bytes() != state:
        _hash(path, files)
        write_atomic(memo, state, mode=0o600)
    return Bundle(path, expected, _card(path, manifest), signed_by, signed_by == trust.development)


_HINT = "Its bytes changed after it was signed: delete the directory and build or pull the model again."


def _read(path: Path, name: str) -> bytes:
    try:
        if not stat.S_ISREG((path / name).lstat().st_mode):
            raise IntegrityError(f"{path / name} is not a plain file.", hint=_HINT)
        return (path / name).read_bytes()
    except OSError as error:
        raise IntegrityError(
            f"{path / name} cannot be read: {error.strerror}; this is not a whole bundle.", hint=_HINT
        ) from error


def _listed(path: Path, manifest: bytes) -> dict[str, dict[str, Any]]:
    try:
        said = json.loads(manifest)
        if said["format"] != FORMAT:
            raise IntegrityError(
                f"{path / MANIFEST} has format {said['format']}; this headend reads format {FORMAT}.",
                hint="Use a headend of the version that made it.",
            )
        files: dict[str, dict[str, Any]] = said["files"]
        for name, entry in files.items():
            if not _SAFE_PATH.fullmatch(name) or name in (MANIFEST, SIGNATURE):
                raise IntegrityError(f"{path / MANIFEST} lists `{name}`, which no bundle may contain.")
            if not _DIGEST.fullmatch(entry["sha256"]) or not isinstance(entry["size"], int):
                raise IntegrityError(f"{path / MANIFEST} has no sound digest and size for `{name}`.")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{path / MANIFEST} is not a manifest: {error!r}.", hint=_HINT) from error
    return files


def _walk(root: Path, files: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every listed file with what would change if it were touched; anything else present is refused."""
    missing = set(files)
    for directory, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(directory, name)
            relative, about = path.relative_to(root).as_posix(), path.lstat()
            if stat.S_ISDIR(about.st_mode) or relative in (MANIFEST, SIGNATURE):
                continue
            if not stat.S_ISREG(about.st_mode):
                raise IntegrityError(f"{path} is a link or special file.", hint=_HINT)
            if relative not in files:
                raise IntegrityError(f"{path} is not in the bundle's manifest.", hint=_HINT)
            if about.st_size != files[relative]["size"]:
                raise IntegrityError(
                    f"{path} has {about.st_size} bytes, expected {files[relative]['size']}.", hint=_HINT
                )
            missing.discard(relative)
            yield relative, (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    if missing:
        raise IntegrityError(f"{root / min(missing)} is missing.", hint=_HINT)


def _hash(path: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    names = sorted(files)
    with ThreadPoolExecutor() as pool:
        sums = pool.map(sha256_file, [path / name for name in names])
        for name, found in zip(names, sums, strict=True):
            if found != files[name]["sha256"]:
                raise IntegrityError(
                    f"{path / name} has digest {found}, expected {files[name]['sha256']}.", hint=_HINT
                )


def _card(path: Path, manifest: bytes) -> Card:
    try:
        card = Card.load(path / "card.yaml")
    except DeclarationError as error:
        raise IntegrityError(
            f"The card of the bundle at {path} cannot be read by this headend: {error}"
        ) from error
    if card.name != json.loads(manifest)["name"]:
        raise IntegrityError(
            f"{path / 'card.yaml'} is of `{card.name}`, not of the model the manifest names."
        )
    return card
