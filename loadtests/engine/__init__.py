"""Runs campaigns: an open-loop generator in processes of its own, and the parent that watches them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loadtests.engine.run import run_campaign
    from loadtests.engine.targets import Targets

__all__ = ["Targets", "run_campaign"]


def __getattr__(name: str) -> Any:
    """Late: each generator process imports this package, and needs nothing of what the parent does."""
    if name == "run_campaign":
        from loadtests.engine.run import run_campaign

        return run_campaign
    if name == "Targets":
        from loadtests.engine.targets import Targets

        return Targets
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
