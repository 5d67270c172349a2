"""Campaigns of short texts for the small server."""

from __future__ import annotations

from typing import Any

from loadtests.campaign import Campaign


def declared(**changes: Any) -> Campaign:
    """A campaign of short texts; a loaded test machine must not decide whether its generator was in time."""
    return Campaign.model_validate(declaration(**changes))


def declaration(**changes: Any) -> dict[str, Any]:
    words = {"name": "words", "app": "review", "client": "http", "input": "clean-texts", "class": "live"}
    return {
        "campaign": "words",
        "title": "Short texts.",
        "seconds": 3,
        "workload": [words],
        "arrivals": [{"kind": "constant", "rate": 40}],
        "objectives": {"classes": {"live": {"p50_ms": 20_000}}, "error_rate": 0.5},
        **changes,
    }
