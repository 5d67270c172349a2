"""Where tests build the real models, once for all of them.

The state directory `build/test-home` is kept between runs (`HEADEND_TEST_HOME` names another): a first run
takes minutes more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.files import locked

TEST_HOME = Path(os.environ.get("HEADEND_TEST_HOME") or Path(__file__).parents[1] / "build" / "test-home")


@contextmanager
def alone() -> Iterator[None]:
    """Only one test process at a time builds there; the others wait, and then find it built."""
    TEST_HOME.mkdir(parents=True, exist_ok=True)
    with locked(TEST_HOME / ".tests.lock"):
        yield
