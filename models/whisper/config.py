"""What the recogniser needs of CTranslate2's `config.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from models.errors import IntegrityError


@dataclass(frozen=True)
class Config:
    """Token numbers, and the heads that follow the sound."""

    languages: tuple[int, ...]
    suppressed: tuple[int, ...]
    """Tokens that never come."""
    suppressed_first: tuple[int, ...]
    """Tokens that do not begin a text."""
    alignment_heads: tuple[tuple[int, int], ...]
    """(Decoder layer, head)."""


def read_config(directory: Path) -> Config:
    """Read `config.json` in `directory`. Raises `IntegrityError` if it is not Whisper's."""
    path = directory / "config.json"
    try:
        found = json.loads(path.read_text("utf-8"))
        return Config(
            tuple(int(token) for token in found["lang_ids"]),
            tuple(int(token) for token in found["suppress_ids"]),
            tuple(int(token) for token in found["suppress_ids_begin"]),
            tuple((int(layer), int(head)) for layer, head in found["alignment_heads"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path} is not Whisper's configuration: {error!r}") from error
