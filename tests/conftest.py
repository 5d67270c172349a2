"""How tests are spread over two processes: end-to-end tests, which share a running fleet, in one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

E2E = Path(__file__).parent / "e2e"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        group = "e2e" if E2E in item.path.parents else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
        # The first test that needs real models may have to wait for them to be built.
        if {"bundle", "bundles", "small_bundles"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.timeout(3600))
