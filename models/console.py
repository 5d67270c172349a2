"""How commands speak: results on standard output, progress and errors on standard error."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer
from rich.console import Console

from models.errors import HeadendError

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output, for scripts."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def run(app: typer.Typer) -> None:
    """Run a command line. A `HeadendError` is shown with its hint, without a traceback, and sets the exit
    code.

    With `--json` among the arguments it is also one JSON object, `{"error", "hint"}`, on standard output.
    """
    try:
        app()
    except HeadendError as error:
        if "--json" in sys.argv:
            print_json({"error": error.message, "hint": error.hint})
        err.print(f"[red]error:[/red] {_plain(error.message)}")
        if error.hint:
            err.print(_plain(error.hint))
        raise SystemExit(error.exit_code) from None


def _plain(text: str) -> str:
    """Brackets in messages are text, not rich's markup."""
    return text.replace("[", "\\[")
