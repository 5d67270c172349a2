"""How `pytest -n` spreads tests over processes: end-to-end tests, which share a running fleet, in one."""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

E2E = "tests/e2e/"


class _ByFile(LoadScopeScheduling):
    """A file's tests stay together, and so do all end-to-end tests. (xdist's groups need an older pytest.)"""

    def _split_scope(self, nodeid: str) -> str:
        return E2E if nodeid.startswith(E2E) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByFile:
    # In the order of collection: end-to-end tests take longest, so they begin.
    config.option.loadscopereorder = False
    return _ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # The first test that needs real models may have to wait for them to be built.
        if {"bundle", "bundles", "small_bundles"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(3600))
