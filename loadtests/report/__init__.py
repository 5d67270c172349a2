"""A run's report: one self-contained HTML file, an overview as a picture, and every chart as a picture."""

from __future__ import annotations

from pathlib import Path


def write(folder: Path) -> Path:
    """Read the result in `folder` and write its report there; gives the page's path.

    Raises `DeclarationError` without a result, `HeadendError` when it cannot write.
    """
    from loadtests.report import page  # brings matplotlib along, which takes a second

    return page.write(folder)
