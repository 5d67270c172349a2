"""Logs of a site: bounded, and read by people.

Parts write to their log themselves, opened for appending; no process of ours stands between. A log that
grew past the bound is copied aside and cut, which appending writers do not notice; lines written in the
instant between copy and cut are lost.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

MAX_BYTES = 16 << 20
"""A log and its predecessor `<name>.log.1` take twice this, plus what is written between two looks."""

_TAIL_BYTES = 1 << 20


def bound(directory: Path, max_bytes: int = MAX_BYTES) -> None:
    """Cut every log in `directory` that is longer than `max_bytes`, keeping the cut part as `.1`."""
    for log in directory.glob("*.log"):
        if log.stat().st_size > max_bytes:
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)


def tail(log: Path, lines: int) -> list[str]:
    """The last lines of a log, without line ends; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return list(deque(text.splitlines(), maxlen=lines))


def follow(files: dict[str, Path], *, poll_s: float = 0.3) -> Iterator[tuple[str, str]]:
    """Yield (name, line) for every line appended to any of `files` from now on, for ever."""
    places = {name: _size(path) for name, path in files.items()}
    while True:
        for name, path in files.items():
            size = _size(path)
            if size < places[name]:
                places[name] = 0
            if size > places[name]:
                text, places[name] = _complete_lines(path, places[name])
                yield from ((name, line) for line in text.splitlines())
        time.sleep(poll_s)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _complete_lines(path: Path, start: int) -> tuple[str, int]:
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(_TAIL_BYTES)
    end = data.rfind(b"\n") + 1 or (len(data) if len(data) == _TAIL_BYTES else 0)
    return data[:end].decode("utf-8", "replace"), start + end
