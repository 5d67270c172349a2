"""Finds a card's recipe: its own `export.py` where it has one, and the ways of a native ONNX model for the
rest.
"""

from __future__ import annotations

import ast
import importlib.util
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from models.card import Card
from models.catalog_index import card_directory, is_packaged
from models.errors import BuildError
from models.files import sha256_file, tree_digests
from models.recipe import Array, Case, Runner
from models.runtime import runner

_HOUSE = Path(__file__).parent


class CardRecipe:
    """What `models.recipe.Recipe` asks for, for any card."""

    def __init__(self, card: Card) -> None:
        self.card = card
        self.directory = card_directory(card.name)
        path = self.directory / "export.py"
        # An imported card is data: code beside it is never run.
        self.module = _load(card.name, path) if is_packaged(card.name) and path.exists() else None

    def own(self, hook: str) -> Any:
        """A hook that the card's own `export.py` defines, or None."""
        return getattr(self.module, hook, None)

    @property
    def has_task_metric(self) -> bool:
        """Whether the card's outputs can be read as text and compared with transcripts."""
        return self.own("texts") is not None

    def export(self, source: Path, out: Path) -> None:
        """Write the fp32 graphs and files; a native model's are its source files of the same names."""
        if hook := self.own("export"):
            hook(source, out)
        else:
            for name in (*self.card.graphs.values(), *self.card.files):
                if not (source / name).is_file():
                    raise BuildError(
                        f"{self.card.name}: no source file is named `{name}`.",
                        hint="Name it so in the card's source, or write an export.py.",
                    )
                shutil.copyfile(source / name, out / name)

    def reference(self, source: Path) -> Runner:
        """The source runtime; for a native model the original graphs in ONNX Runtime."""
        if hook := self.own("reference"):
            found: Runner = hook(source)
            return found
        return runner({graph: source / name for graph, name in self.card.graphs.items()})

    def cases(self, source: Path, exported: Path) -> list[Case]:
        """Recorded real inputs: the recipe's, and every `cases/*.npz` beside the card (of graph `model`)."""
        hook = self.own("cases")
        found: Iterable[Case] = hook(source, exported) if hook else ()
        return [*found, *(_recorded(path) for path in sorted((self.directory / "cases").glob("*.npz")))]

    def code(self) -> dict[str, str]:
        """sha256 of the recipe and of the modules of this house it imports: when one changes, export
        again.
        """
        if self.module is None:
            return {}
        imported = {str(path.relative_to(_HOUSE)): sha256_file(path) for path in self._imports()}
        return {"export.py": sha256_file(self.directory / "export.py"), **imported}

    def recordings(self) -> dict[str, str]:
        """sha256 of what lies beside the card: when one changes, prove again."""
        folders = [self.directory / name for name in ("cases", "clips")]
        return {f"{root.name}/{name}": sum_ for root in folders for name, sum_ in tree_digests(root).items()}

    def _imports(self) -> set[Path]:
        """Files of this house that the recipe imports, directly or through others."""
        found: set[Path] = set()
        todo = [self.directory / "export.py"] if self.module else []
        while todo:
            path = todo.pop()
            new = _house_imports(path) - found
            found |= new
            todo += new
        return found


def _house_imports(path: Path) -> set[Path]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    files = {_HOUSE.joinpath(*name.split(".")[1:]) for name in names if name.split(".")[0] == "models"}
    candidates = {file.with_suffix(".py") for file in files if file != _HOUSE}
    return {file for file in candidates if file.is_file()}


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"headend_recipe_{name.replace('-', '_')}", path)
    if spec is None or spec.loader is None:
        raise BuildError(f"{path} cannot be loaded as Python.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _recorded(path: Path) -> Case:
    with np.load(path, allow_pickle=False) as arrays:
        inputs: dict[str, Array] = {name: arrays[name] for name in arrays.files}
    return Case("model", path.stem, inputs)
