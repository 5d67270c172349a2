"""Writes the model repository that one site's Triton serves, from fleet, cards and verified bundles.

A version directory is complete before `config.pbtxt` names it, and `config.pbtxt` is replaced in one rename:
whenever the writer dies, every model is either as it was or as it should be. Triton's model control is
explicit, so nothing changes for clients until its owner loads what `write_repository` says has changed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from models.bundle import Bundle
from models.errors import DeclarationError, UsageError
from models.files import canonical_json, digest, new_directory, sha256_file, write_atomic
from serving.fleet import Fleet
from serving.triton.config import parse
from serving.triton.derive import Flavour, backend_of, model_config

CONFIG = "config.pbtxt"
SHIM = """from serving.triton.{module} import TritonPythonModel

__all__ = ["TritonPythonModel"]
"""


@dataclass(frozen=True)
class Changes:
    """What a write did; the names of models, sorted."""

    written: list[str] = field(default_factory=list)
    """New or different: load these (a load swaps a running model without downtime)."""
    removed: list[str] = field(default_factory=list)
    """No longer served here: unload these."""
    unchanged: list[str] = field(default_factory=list)


def write_repository(
    fleet: Fleet,
    site: str,
    bundles: Mapping[str, Bundle],
    out: Path,
    *,
    flavour: Flavour,
    engines: Mapping[str, Path] | None = None,
) -> Changes:
    """Make `out` the model repository of `site`.

    Args:
        fleet: says which models the site serves, and how.
        site: the site's name.
        bundles: a verified bundle of each of the site's models, by name.
        out: the repository; models that are as they should be are not touched.
        flavour: which Triton will read it.
        engines: TensorRT plans by model name; used in the `container` flavour.

    Raises:
        UsageError: a model has no bundle, or its bundle lacks the precision that the fleet asks for.
    """
    out.mkdir(parents=True, exist_ok=True)
    wanted = fleet.models_at(site)
    if missing := [name for name in wanted if name not in bundles]:
        raise UsageError(
            f"Site `{site}` serves models without a bundle: {', '.join(missing)}.",
            hint=f"Build them: headend models build {' '.join(missing)}",
        )
    plans = dict(engines or {}) if flavour == "container" else {}
    changes = Changes(removed=_remove_others(out, set(wanted)))
    for name in wanted:
        bundle, plan = bundles[name], plans.get(name)
        contents = _contents(fleet, bundle, flavour, plan)
        version = _version(bundle, contents)
        config = model_config(
            fleet,
            site,
            bundle.card,
            flavour=flavour,
            version=version,
            engine=plan is not None,
            bundle=bundle.digest,
        )
        changed = _write_model(out / name, version, contents, config.render().encode())
        (changes.written if changed else changes.unchanged).append(name)
    return changes


Contents = Mapping[str, Path | bytes]
"""A version directory: relative path to a file to link, or to bytes to write."""


def _contents(fleet: Fleet, bundle: Bundle, flavour: Flavour, plan: Path | None) -> Contents:
    card, precision = bundle.card, fleet.models[bundle.card.name].precision
    backend = backend_of(card, flavour, engine=plan is not None)
    if backend == "tensorrt" and plan:
        return {"model.plan": plan}
    graphs = {f"{graph}.onnx": bundle.graph(graph, precision) for graph in card.graphs}
    if backend == "onnxruntime":
        return graphs
    if card.serving.runtime == "recognizer":
        files = {f"files/{name}": bundle.file(name) for name in card.files}
        return graphs | files | {"model.py": _shim("recognizer_model")}
    return graphs | {"model.py": _shim("onnx_model")}


def _shim(module: str) -> bytes:
    return SHIM.format(module=module).encode()


def _version(bundle: Bundle, contents: Contents) -> int:
    """A version number that follows from the contents, so that one model has one number at every site."""
    listing = {name: _identity(bundle, source) for name, source in contents.items()}
    return 1 + int(digest(canonical_json(listing))[:7], 16)


def _identity(bundle: Bundle, source: Path | bytes) -> str:
    if isinstance(source, bytes):
        return digest(source)
    if source.is_relative_to(bundle.path):
        return f"{bundle.digest}/{source.relative_to(bundle.path).as_posix()}"
    return sha256_file(source)


def _write_model(directory: Path, version: int, contents: Contents, config: bytes) -> bool:
    path = directory / CONFIG
    before = path.read_bytes() if path.exists() else b""
    fresh = directory / str(version)
    if before == config and fresh.is_dir():
        return False
    if not fresh.is_dir():
        with new_directory(fresh) as building:
            for name, source in contents.items():
                _place(source, building / name)
    write_atomic(path, config)
    _prune(directory, keep={version, *_versions(before)})
    return True


def _place(source: Path | bytes, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, bytes):
        target.write_bytes(source)
        return
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _versions(config: bytes) -> list[int]:
    try:
        return list(parse(config.decode()).version_policy.specific.versions)
    except (DeclarationError, UnicodeDecodeError):
        return []


def _prune(directory: Path, keep: set[int]) -> None:
    """Delete versions but those in `keep`: the new one and the one that Triton may still be serving."""
    for path in directory.iterdir():
        if path.is_dir() and path.name.isdecimal() and int(path.name) not in keep:
            shutil.rmtree(path)


def _remove_others(out: Path, wanted: set[str]) -> list[str]:
    removed = []
    for path in sorted(out.iterdir()):
        if path.is_dir() and path.name not in wanted:
            (path / CONFIG).unlink(missing_ok=True)  # from here on Triton cannot load what is half gone
            shutil.rmtree(path)
            removed.append(path.name)
    return removed
