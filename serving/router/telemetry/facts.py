"""What is known of a pool without measuring it, and over what time it is measured."""

from __future__ import annotations

from typing import overload

from models.schema import Strict

RATE_WINDOW_S = 5.0
"""Rates are of the last seconds: long enough for dozens of requests, short enough to follow a programme."""
SERVICE_WINDOW_S = 30.0
"""Service times change more slowly than load, and their variance takes more executions to tell."""


class PoolFacts(Strict):
    """One pool at one site, from the fleet file, the cards and the site's capacity record."""

    version: str = ""
    """A model's bundle digest; of an app, headend's version."""
    instances: int = 1
    """Executions of a model, or requests to an app, that are worked on at the same time."""
    max_batch: int = 1
    room: int = 1
    """Requests that the site takes at a time, waiting ones included."""
    capacity: float | None = None
    """Requests/s, as the site's capacity record says; None: it says nothing."""


@overload
def rounded(value: float) -> float: ...
@overload
def rounded(value: None) -> None: ...
@overload
def rounded(value: float | None) -> float | None: ...
def rounded(value: float | None) -> float | None:
    """Four significant digits: no measurement here is better, and every digit travels."""
    return None if value is None else float(f"{value:.4g}")
