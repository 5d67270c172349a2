"""What this machine's own commands show to front doors that ask who calls."""

from __future__ import annotations

import os
import re

from models.errors import UsageError

VARIABLE = "HEADEND_API_KEY"
"""An environment variable, which processes of the same user inherit, and no command line shows."""


def own_key() -> str | None:
    """The key or token; None where there is none. Raises `UsageError` for what no header can carry."""
    key = os.environ.get(VARIABLE, "").strip()
    if key and not re.fullmatch(r"[!-~]+", key):
        raise UsageError(f"{VARIABLE} holds characters that no API key or token has.")
    return key or None


def headers() -> dict[str, str]:
    """The header that shows it, in any protocol."""
    key = own_key()
    return {"authorization": f"Bearer {key}"} if key else {}


def hidden(text: str) -> str:
    """`text` without it: servers say all kinds of things in their errors."""
    key = own_key()
    return text.replace(key, "…") if key else text
