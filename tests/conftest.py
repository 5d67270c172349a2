"""How `pytest -n` spreads tests over processes: those that share the running demo fleet in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

DEMO = ("test_apps", "test_loadtest", "test_readme", "test_up")
"""Files of `tests/e2e` with tests that ask the demo fleet."""


class _ByFile(LoadScopeScheduling):
    """A file's tests stay together, as do the demo fleet's. (xdist's own groups need an older pytest.)"""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "demo" if file.startswith("tests/e2e/") and Path(file).stem in DEMO else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByFile:
    # In the order of collection: end-to-end tests take longest, so they begin.
    config.option.loadscopereorder = False
    return _ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # The first test that needs real models may have to wait for them to be built.
        if {"bundle", "bundles", "small_bundles"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(3600))
