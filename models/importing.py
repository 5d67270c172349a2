"""A user's own ONNX file with a card: registered under `$HEADEND_HOME/cards`, then built as any other."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from models.card import Card
from models.catalog_index import imported_cards, is_packaged
from models.errors import DeclarationError, UsageError
from models.files import new_directory, sha256_file


def register(file: Path, card_file: Path) -> str:
    """Take in an ONNX file, its card and `cases/*.npz` beside the card, replacing an earlier import of the
    name.

    Returns the model's name. Raises `DeclarationError` for a card that cannot be imported, `UsageError` for a
    file that is not there.
    """
    card = Card.load(card_file)
    if not file.is_file():
        raise UsageError(f"{file} is not a file.")
    if is_packaged(card.name):
        raise DeclarationError(
            f"{card_file}: the packaged catalog has a model `{card.name}`.", hint="Give yours another name."
        )
    if card.source.packages or card.source.joined:
        raise DeclarationError(
            f"{card_file}: an imported model's weights are the file itself; leave source.packages empty."
        )
    if card.serving.runtime != "onnx" or card.files:
        raise DeclarationError(
            f"{card_file}: one plain ONNX graph can be imported; runtime must be `onnx`, files empty."
        )
    name = card.graphs["model"]
    source = card.source.model_copy(update={"imported": {name: sha256_file(file)}})
    taken = card.model_copy(update={"source": source})
    with new_directory(imported_cards() / card.name) as fresh:
        (fresh / "source").mkdir()
        shutil.copyfile(file, fresh / "source" / name)
        (fresh / "card.yaml").write_text(_yaml(taken), "utf-8")
        (fresh / "cases").mkdir()
        for case in sorted((card_file.parent / "cases").glob("*.npz")):
            shutil.copyfile(case, fresh / "cases" / case.name)
    return card.name


def _yaml(card: Card) -> str:
    values = card.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
