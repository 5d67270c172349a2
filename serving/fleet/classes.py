"""What a request may wait."""

from __future__ import annotations

from typing import Literal, get_args

Class = Literal["live", "interactive", "batch"]
CLASSES: tuple[Class, ...] = get_args(Class)
"""The most urgent first."""
DEFAULT_CLASS: Class = "interactive"
"""That of a request that says nothing."""
CLASS_HEADER = "x-headend-class"
"""Where a request may say it."""
