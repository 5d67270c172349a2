"""How an agent shows who it is: the client that asks other sites, and the seal on its summaries.

Both follow the files of the site's identity when these are renewed. Where the fleet's authority is kept, the
agent asks it for a new certificate in time, so that sites nobody touches keep their identity. Without an
identity, on a fleet without a CA, there is no encryption and no signature.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from models.errors import HeadendError
from serving.identity import Authority, SiteIdentity, client_context
from serving.router.telemetry.board import NoSeal, Seal
from serving.router.telemetry.message import Signed
from serving.router.telemetry.seal import IdentitySeal

_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)

_log = logging.getLogger("headend.agent")


class Identity:
    """Of the agent of `site`. `path`: the directory of the site's identity; None: it has none.

    Raises `OSError` or `ValueError` when its files cannot be read at the start.
    """

    def __init__(self, fleet: str, site: str, path: str | None) -> None:
        self._fleet, self._site = fleet, site
        self._files = SiteIdentity(Path(path)) if path else None
        self._seen = self._stamps()
        self._expires = datetime.max.replace(tzinfo=UTC)
        self._retired: httpx.AsyncClient | None = None
        self.client, self._seal = self._made()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.aclose()
        await self._retire(None)

    @property
    def remaining_s(self) -> float | None:
        """Time until the site's certificate expires; None: it has none."""
        if self._files is None:
            return None
        return (self._expires - datetime.now(UTC)).total_seconds()

    def sign(self, summary: str) -> Signed:
        """See `Seal`."""
        return self._seal.sign(summary)

    def check(self, signed: Signed, site: str) -> None:
        """See `Seal`."""
        self._seal.check(signed, site)

    async def renew(self) -> None:
        """Take up files that have changed; what is half written, or wrong, is tried again the next time."""
        await self._retire(None)
        stamps = self._stamps()
        if stamps == self._seen:
            return
        try:
            client, self._seal = self._made()
        except (OSError, ValueError) as error:
            _log.error("the site's new identity cannot be read, the old one stays: %s", error)
            return
        # Questions under way end on the old one.
        await self._retire(self.client)
        self.client, self._seen = client, stamps

    async def issue(self) -> None:
        """Have the authority, where it is kept here, renew the certificate with a third of its life left."""
        if self._files is not None and Authority.exists(self._fleet):
            try:
                await asyncio.to_thread(lambda: Authority(self._fleet).renew(self._site))
            except (HeadendError, OSError) as error:
                _log.error("the site's certificate is not renewed: %s", error)

    async def _retire(self, client: httpx.AsyncClient | None) -> None:
        if self._retired is not None:
            await self._retired.aclose()
        self._retired = client

    def _made(self) -> tuple[httpx.AsyncClient, Seal]:
        if self._files is None:
            return httpx.AsyncClient(trust_env=False, limits=_LIMITS), NoSeal()
        self._expires = self._files.read_certificate().not_valid_after_utc
        context = client_context(self._files)
        client = httpx.AsyncClient(trust_env=False, limits=_LIMITS, verify=context)
        return client, IdentitySeal(self._fleet, self._files)

    def _stamps(self) -> list[int]:
        files = self._files
        if files is None:
            return []
        paths = (files.certificate, files.key, files.authorities, files.revoked)
        return [path.stat().st_mtime_ns if path.exists() else 0 for path in paths]
