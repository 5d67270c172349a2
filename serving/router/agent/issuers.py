"""Issuers' keys, fetched from their URLs and put before Envoy, which checks tokens by them (see `tokens`)."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from serving import trust
from serving.fleet import Access, Jwt
from serving.router import envoy

FETCH_EVERY_S = 600.0
_RETRY_S = (1.0, 60.0)
"""While a URL is away, it is asked more and more seldom."""
_TIMEOUT_S = 10.0
_MOST_BYTES = 1 << 20
_CURVES: dict[str, ec.EllipticCurve] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
}

_log = logging.getLogger("headend.agent")


class IssuerKeys:
    """Of one front door. `out`: where Envoy's files are."""

    def __init__(self, access: Access | None, out: Path) -> None:
        self._access, self._out = access or Access(), out
        self._issuers = [each for each in self._access.jwt if each.is_remote]
        self._since = dict.fromkeys((each.issuer for each in self._issuers), time.monotonic())
        self.failures: Counter[str] = Counter()
        """Fetches that brought nothing, by issuer."""

    @property
    def ages_s(self) -> dict[str, float]:
        """Since each issuer's keys were fetched, or since the agent started."""
        return {issuer: time.monotonic() - since for issuer, since in self._since.items()}

    async def run(self) -> None:
        """Fetch all until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for issuer in self._issuers:
                tasks.create_task(self._keep_fetching(issuer))

    async def _keep_fetching(self, issuer: Jwt) -> None:
        pause, longest = _RETRY_S
        while True:
            try:
                envoy.write_issuer_keys(self._access, issuer, await _fetched(issuer), self._out)
            except (httpx.HTTPError, httpx.StreamError, OSError, ValueError) as error:
                self.failures[issuer.issuer] += 1
                _log.error("keys of issuer %s are not fetched: %s", issuer.issuer, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)
            else:
                self._since[issuer.issuer] = time.monotonic()
                pause = _RETRY_S[0]
                await asyncio.sleep(FETCH_EVERY_S)


async def _fetched(issuer: Jwt) -> bytes:
    """A JSON Web Key Set (RFC 7517). Raises `ValueError` for anything else."""
    data = bytearray()
    context = trust.client_context(issuer.authorities)
    async with (
        httpx.AsyncClient(trust_env=False, verify=context, timeout=_TIMEOUT_S) as client,
        asyncio.timeout(_TIMEOUT_S),
        client.stream("GET", issuer.jwks) as response,
    ):
        if response.status_code != httpx.codes.OK:
            raise ValueError(f"HTTP {response.status_code} from {issuer.jwks}")
        async for chunk in response.aiter_bytes():
            data += chunk
            if len(data) > _MOST_BYTES:
                raise ValueError(f"{issuer.jwks} gives more than {_MOST_BYTES} bytes")
    found = json.loads(data)
    if not any(_is_public_key(each) for each in _keys(found)):
        raise ValueError(f"{issuer.jwks} gives no JSON Web Key Set with a public key in it")
    return json.dumps(found).encode()


def _keys(found: Any) -> list[Any]:
    keys = found.get("keys") if isinstance(found, dict) else None
    return keys if isinstance(keys, list) else []


def _is_public_key(key: Any) -> bool:
    """Whether Envoy can use it (RFC 7518, section 6; RFC 8037): a set without such a key it would refuse."""
    try:
        match key["kty"]:
            case "EC":
                curve = _CURVES[key["crv"]]
                ec.EllipticCurvePublicNumbers(_number(key["x"]), _number(key["y"]), curve).public_key()
            case "RSA":
                rsa.RSAPublicNumbers(_number(key["e"]), _number(key["n"])).public_key()
            case "OKP":
                ed25519.Ed25519PublicKey.from_public_bytes(_bytes(key["x"]))
            case _:
                return False
    except (KeyError, TypeError, ValueError, AttributeError):
        return False
    return True


def _number(text: str) -> int:
    return int.from_bytes(_bytes(text))


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
