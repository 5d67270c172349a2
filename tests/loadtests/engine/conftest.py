"""A small server that answers like the review app."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SERVER = Path(__file__).with_name("answering_server.py")


@pytest.fixture
def server() -> Iterator[Callable[..., str]]:
    """Starts servers in processes of their own; returns their `host:port`."""
    running: list[subprocess.Popen[str]] = []

    def start(**options: float) -> str:
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        process = subprocess.Popen([sys.executable, SERVER, *arguments], stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        return f"127.0.0.1:{int(process.stdout.readline())}"

    yield start
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
