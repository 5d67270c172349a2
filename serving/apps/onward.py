"""What a request says that holds for the models it needs too: apps hand it on when they call them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from serving.apps.errors import AppError
from serving.fleet import CLASS_HEADER, CLASSES, DEADLINE_HEADER, Class

HOP_HEADER = "x-headend-hop"
"""Set by a front door on what it forwards to another site; copied by apps, so that nothing hops twice."""


@dataclass(frozen=True)
class Onward:
    """Where a request came from, its class and its deadline."""

    hop: str | None = None
    """The value of its `x-headend-hop` header, if it carried one."""
    class_: Class | None = None
    until: float | None = None
    """When an answer is worth nothing any more, by `time.monotonic()`."""

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> Self:
        """Read the headers of a request that arrives. Raises `AppError` (400) as the front door refuses."""
        named, within_ms = headers.get(CLASS_HEADER), headers.get(DEADLINE_HEADER)
        class_ = next((each for each in CLASSES if each == named), None)
        if named is not None and class_ is None:
            raise AppError(f"{CLASS_HEADER} is one of {', '.join(CLASSES)}.")
        if within_ms is not None and not (within_ms.isascii() and within_ms.isdigit()):
            raise AppError(f"{DEADLINE_HEADER} is a whole number of milliseconds.")
        until = None if within_ms is None else time.monotonic() + int(within_ms) / 1000
        return cls(headers.get(HOP_HEADER), class_, until)

    def headers(self) -> dict[str, str]:
        """For a call to a model; the deadline is that call's timeout."""
        return {
            **({HOP_HEADER: self.hop} if self.hop else {}),
            **({CLASS_HEADER: self.class_} if self.class_ else {}),
        }

    def left_s(self, most: float) -> float:
        """Seconds that a call may still take, at most `most`. Raises `AppError` (504) when there are none."""
        left = most if self.until is None else min(most, self.until - time.monotonic())
        if left <= 0:
            raise AppError("The request's deadline has passed.", status=504)
        return left
