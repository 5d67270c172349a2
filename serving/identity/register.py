"""What an authority remembers of what it has issued: `register.json`."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from models.schema import Strict

Step = Literal["trust", "issue", "finish"]


class Issued(Strict):
    """One certificate of a site."""

    site: str
    serial: str
    """Hexadecimal; no other certificate of the fleet has it."""
    authority: str
    """Hexadecimal serial of the authority that signed it."""
    expires: datetime
    revoked: datetime | None = None
    certificate: str = ""
    """PEM, for whoever asked for it and never got the answer."""


class Register(Strict):
    """What an authority has issued; expired certificates are forgotten."""

    issued: tuple[Issued, ...] = ()
    barred: frozenset[str] = frozenset()
    """Sites that were revoked and have not been taken in again."""
    next_step: Step = "trust"
    """Of a rotation."""

    def of(self, site: str) -> list[Issued]:
        """Certificates of `site`, the newest last."""
        return [each for each in self.issued if each.site == site]
