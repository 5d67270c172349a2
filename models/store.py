"""Where bundles are kept: a directory, or any URL that fsspec knows.

Layout under the root: `bundles/<digest>/…` (immutable) and `current/<name>.json` (which digest a model is at
now). A bundle's manifest is written last and a pointer after the bundle, so a reader never meets half a
bundle. Whatever the store, bundles are used from `$HEADEND_HOME/store/bundles`: the default store itself, or
a verified copy.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import fsspec

from models.bundle import MANIFEST, SIGNATURE, Bundle, is_sound, open_bundle
from models.catalog_index import card_names
from models.errors import IntegrityError, UsageError
from models.files import canonical_json, digest, new_directory, write_atomic
from models.home import home

_DIGEST = re.compile(r"[0-9a-f]{64}")


def open_store(url: str | None = None) -> Store:
    """The store at `url`: a path or an fsspec URL; by default `$HEADEND_HOME/store`."""
    return Store(url or str(home() / "store"))


class Store:
    """Bundles by digest, and each model's current one."""

    def __init__(self, url: str) -> None:
        try:
            self._fs, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise UsageError(
                f"The store `{url}` cannot be opened: {error}", hint="Give a directory or an fsspec URL."
            ) from error
        self.url = url
        self._local = "file" in self._protocols()

    def names(self) -> list[str]:
        """Models with a current bundle, sorted."""
        root = f"{self._root}/current"
        if not self._fs.exists(root):
            return []
        return sorted(Path(path).stem for path in self._fs.ls(root, detail=False) if path.endswith(".json"))

    def current(self, name: str) -> str | None:
        """Digest of the model's current bundle, or None if it has none here."""
        path = self._pointer(name)
        try:
            data = self._fs.cat_file(path)
        except FileNotFoundError:
            return None
        try:
            found = str(json.loads(data)["digest"])
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"{path} does not name a bundle: {error!r}.") from error
        return _checked(found)

    def put(self, bundle: Bundle) -> None:
        """Copy a bundle into the store, whole or not at all, and make it its model's current one."""
        target = f"{self._root}/bundles/{bundle.digest}"
        if self._local:
            if not is_sound(Path(target), bundle.digest):
                with new_directory(Path(target)) as fresh:
                    _copy(bundle.path, fresh)
        elif not self.has(bundle.digest):
            for path in _manifest_last(bundle.path):
                self._fs.makedirs(f"{target}/{Path(path).parent.as_posix()}", exist_ok=True)
                self._fs.put_file(str(bundle.path / path), f"{target}/{path}")
        self._point(bundle.card.name, bundle.digest)

    def has(self, digest: str) -> bool:
        """Whether the whole bundle is there (not whether it is sound: `fetch` says that)."""
        return bool(self._fs.exists(f"{self._root}/bundles/{_checked(digest)}/{MANIFEST}"))

    def fetch(self, name: str, digest: str | None = None) -> Bundle:
        """A verified local copy of a bundle, by default the model's current one.

        Raises `UsageError` if the store does not have it, `IntegrityError` if its bytes or signature are
        wrong.
        """
        wanted = _checked(digest) if digest else self.current(name)
        if wanted is None:
            known = name in card_names()
            raise UsageError(
                f"The store {self.url} has no bundle of `{name}`.",
                hint=f"Build it: headend models build {name}" if known else "See: headend models list",
            )
        path = home() / "store" / "bundles" / wanted
        if not path.exists():
            self._pull(wanted, path)
        bundle = open_bundle(path, wanted)
        if bundle.card.name != name:
            raise IntegrityError(f"Bundle {wanted} is of `{bundle.card.name}`, not of `{name}`.")
        return bundle

    def _pull(self, wanted: str, path: Path) -> None:
        remote = f"{self._root}/bundles/{wanted}"
        try:
            manifest = self._fs.cat_file(f"{remote}/{MANIFEST}")
        except FileNotFoundError:
            raise UsageError(f"The store {self.url} has no bundle {wanted}.") from None
        if (found := digest(manifest)) != wanted:
            raise IntegrityError(f"{remote}/{MANIFEST} has digest {found}, expected {wanted}.")
        with new_directory(path) as fresh:
            for file in [*json.loads(manifest)["files"], SIGNATURE, MANIFEST]:
                target = (fresh / file).resolve()
                if not target.is_relative_to(fresh.resolve()):
                    raise IntegrityError(f"{remote}/{MANIFEST} lists `{file}`, outside the bundle.")
                target.parent.mkdir(parents=True, exist_ok=True)
                self._fetch_file(f"{remote}/{file}", target)
            open_bundle(fresh, wanted)

    def _fetch_file(self, remote: str, target: Path) -> None:
        try:
            self._fs.get_file(remote, str(target))
        except FileNotFoundError:
            raise IntegrityError(f"{remote} is missing from the store.") from None

    def _point(self, name: str, wanted: str) -> None:
        data = canonical_json({"digest": wanted})
        if self._local:
            write_atomic(Path(self._pointer(name)), data)
        else:
            self._fs.makedirs(f"{self._root}/current", exist_ok=True)
            self._fs.pipe_file(self._pointer(name), data)

    def _pointer(self, name: str) -> str:
        return f"{self._root}/current/{name}.json"

    def _protocols(self) -> tuple[str, ...]:
        protocol: Any = self._fs.protocol
        return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _checked(value: str) -> str:
    if not _DIGEST.fullmatch(value):
        raise UsageError(f"`{value}` is not a bundle digest (64 hexadecimal digits).")
    return value


def _manifest_last(bundle: Path) -> list[str]:
    files = json.loads((bundle / MANIFEST).read_bytes())["files"]
    return [*files, SIGNATURE, MANIFEST]


def _copy(source: Path, target: Path) -> None:
    for name in _manifest_last(source):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes((source / name).read_bytes())
