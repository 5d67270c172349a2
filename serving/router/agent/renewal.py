"""Certificates of sites elsewhere, renewed over the peer listener.

A site whose certificate is due asks the other sites' agents, of which those on the authority's machine can
answer. Whom they answer, they know from the certificate that the peer listener has checked; and what is
answered counts only if it is for the asker's own key and of an authority that it trusts already. So nobody on
the way, and no other site, gains anything by it. Trust itself (new authorities, revocations) is not carried
this way: see `headend fleet ca`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

import httpx

from models.errors import HeadendError
from serving.identity import Authority, SiteIdentity, requests
from serving.identity.certificates import is_due
from serving.router.telemetry.exchange import Peer

PATH = "/-/agent/certificate"
MOST_BYTES = 16 << 10
"""Of a request, or its answer."""
_TIMEOUT_S = 10.0
_LOOK_EVERY_S = 3600.0
_RETRY_S = 5.0
"""After a first failure, as when others start at the same time; doubled with each further one."""

_log = logging.getLogger("headend.agent")


class Renewal:
    """Of the agent of `site`. `client`: gives the one to ask with, which may change with time."""

    def __init__(
        self,
        fleet: str,
        site: str,
        identity: SiteIdentity | None,
        peers: Collection[Peer],
        client: Callable[[], httpx.AsyncClient],
    ) -> None:
        self._fleet, self._site, self._identity = fleet, site, identity
        self._peers, self._client = peers, client

    async def run(self) -> None:
        """Until cancelled."""
        pause = _RETRY_S
        while True:
            if await self._is_settled():
                pause = _RETRY_S
                await asyncio.sleep(_LOOK_EVERY_S)
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LOOK_EVERY_S)

    async def _is_settled(self) -> bool:
        """Whether the site has a certificate that lasts; if it is due and the authority elsewhere, ask."""
        identity = self._identity
        if identity is None or Authority.exists(self._fleet):
            return True
        try:
            if not is_due(identity.read_certificate()):
                return True
            request = await asyncio.to_thread(requests.make, self._fleet, self._site, identity)
            answer = await self._answer(request)
            await asyncio.to_thread(requests.renew, self._fleet, self._site, identity, answer)
        except (HeadendError, OSError, ValueError) as error:
            _log.error("the site's certificate is not renewed: %s", error)
            return False
        _log.info("the site's certificate is renewed")
        return True

    async def _answer(self, request: bytes) -> bytes:
        """Raises `HeadendError` when nobody gives one."""
        refused = "no site that has the fleet's authority can be reached"
        for peer in self._peers:
            try:
                response = await self._client().post(
                    peer.url + PATH,
                    content=request,
                    extensions={"sni_hostname": peer.sni},
                    timeout=_TIMEOUT_S,
                )
            except httpx.HTTPError:
                continue
            if response.status_code == httpx.codes.OK:
                return response.content[:MOST_BYTES]
            if response.status_code == httpx.codes.FORBIDDEN:
                refused = f"site {peer.site} refuses it: {response.text[:500]}"
        raise HeadendError(refused)


def renewed(fleet: str, peer: str, serial: str, request: bytes) -> bytes | None:
    """What the agent on the authority's machine answers to site `peer`, whose certificate has this `serial`.

    None: the authority is elsewhere. Raises `HeadendError` where the site gets no certificate.
    """
    if not Authority.exists(fleet):
        return None
    if not peer or not serial:
        raise HeadendError("No certificate was shown.")
    issued = Authority(fleet).sign_next(peer, int(serial, 16), request)
    _log.info("site %s has got its next certificate, valid until %s", peer, issued.expires)
    return issued.certificate.encode()
