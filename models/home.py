"""Where headend keeps its state: `$HEADEND_HOME`, by default `~/.local/share/headend`."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The state directory, created on first use and readable by its owner only."""
    path = Path(os.environ.get("HEADEND_HOME") or "~/.local/share/headend").expanduser().absolute()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
