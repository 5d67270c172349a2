"""Which models there are: the packaged catalog and the cards imported into `$HEADEND_HOME/cards`."""

from __future__ import annotations

import difflib
from pathlib import Path

from models.card import Card
from models.errors import DeclarationError, UsageError
from models.home import home

CATALOG = Path(__file__).parent / "catalog"


def imported_cards() -> Path:
    """Where imported cards live, one directory each."""
    return home() / "cards"


def is_packaged(name: str) -> bool:
    """Whether the packaged catalog has a card of this name."""
    return (CATALOG / name / "card.yaml").is_file()


def card_names() -> list[str]:
    """Names of all cards, sorted."""
    roots = (CATALOG, imported_cards())
    return sorted({path.parent.name for root in roots for path in root.glob("*/card.yaml")})


def card_directory(name: str) -> Path:
    """The directory with the model's `card.yaml`. Raises `UsageError` naming the nearest card there is."""
    for root in (CATALOG, imported_cards()):
        if name in {path.parent.name for path in root.glob("*/card.yaml")}:
            return root / name
    known = card_names()
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean `{close[0]}`?" if close else f"There are: {', '.join(known)}."
    raise UsageError(f"There is no model `{name}`.", hint=hint)


def load_card(name: str) -> Card:
    """The card of a model. Raises `UsageError` for an unknown name, `DeclarationError` for a broken card."""
    path = card_directory(name) / "card.yaml"
    card = Card.load(path)
    if card.name != name:
        raise DeclarationError(f"{path}: the card is named `{card.name}`, its directory `{name}`")
    return card


def list_cards() -> list[Card]:
    """All cards, sorted by name."""
    return [load_card(name) for name in card_names()]
