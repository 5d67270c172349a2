"""Who may call the front doors, and how much of them.

A front door that only this machine can reach is open where nothing is declared; any other has to say.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from models.card import Name
from models.errors import DeclarationError
from models.schema import Strict

TENANT_HEADER = "x-headend-tenant"
"""On requests behind a front door: on whose account they are."""
KEY_HEADER = "x-headend-key"
"""The id of the API key, if the request came with one."""
ROLES_HEADER = "x-headend-roles"
"""What the caller may do: `infer`, `operate` or both, separated by spaces."""
TOP_CLASS_HEADER = "x-headend-top-class"
"""The most urgent class that the caller may ask for; absent where every class is open to all."""
CREDENTIAL_HEADER = "x-headend-credential"
"""An API key on its way from the filter that recognises it to the one that checks it."""
PEER_HEADER = "x-headend-peer"
"""On requests from another site: its SPIFFE id, from its certificate."""
PEER_SERIAL_HEADER = "x-headend-peer-serial"
"""Likewise: the serial of that certificate, hexadecimal."""
IDENTITY_HEADERS = (
    TENANT_HEADER,
    KEY_HEADER,
    ROLES_HEADER,
    TOP_CLASS_HEADER,
    CREDENTIAL_HEADER,
    PEER_HEADER,
    PEER_SERIAL_HEADER,
)
"""Set by front doors only; removed from whatever a client sends."""

Role = Literal["infer", "operate"]
"""`infer`: ask apps and models. `operate`: read the models' statistics, which tell of all tenants' load.
Management of the parts is open to neither."""
ROLES: tuple[Role, ...] = get_args(Role)


def _keys_source(text: str) -> str:
    """A file, or a URL that nobody on the way can answer in the issuer's place."""
    if "://" not in text:
        return text
    url = urlsplit(text)
    if not url.hostname or url.port == 0 or url.username is not None or url.fragment:
        raise ValueError("a URL of keys has the form https://HOST[:PORT]/PATH")
    if url.scheme == "https" or (url.scheme == "http" and is_loopback(url.hostname)):
        return text
    raise ValueError("keys are fetched by https; by http from this machine alone")


def is_loopback(host: str) -> bool:
    """Whether `host`, an IP address or a name, is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


Claim = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_:./-]{1,128}$")]


class Jwt(Strict):
    """An issuer of JSON Web Tokens (RFC 7519) that callers may show as `Authorization: Bearer`."""

    issuer: str = Field(min_length=1)
    """What the token's `iss` must be."""
    audiences: list[str] = Field(min_length=1)
    """One of them must be in the token's `aud`: a token made for another service is refused."""
    jwks: Annotated[str, Field(min_length=1), AfterValidator(_keys_source)]
    """The issuer's public keys (RFC 7517): a file, relative to the fleet file and re-read when it changes, or
    an https URL, fetched every ten minutes (http from this machine alone)."""
    authorities: str | None = None
    """Whose certificate the URL's server has to show: a PEM file, relative to the fleet file; by default the
    authorities that the machine trusts."""
    tenant: Claim = "sub"
    """The claim that names the tenant."""
    roles: Claim = "scope"
    """The claim that holds roles, separated by spaces (OAuth 2.0's `scope`)."""
    highest_class: Claim = "headend_class"
    """The claim that holds the most urgent class allowed; a token without it may ask for `interactive`."""

    @property
    def is_remote(self) -> bool:
        """Whether the keys are fetched."""
        return "://" in self.jwks

    @model_validator(mode="after")
    def _authorities_of_a_url(self) -> Self:
        if self.authorities and not self.jwks.startswith("https://"):
            raise ValueError("`authorities` are for a `jwks` that is fetched by https")
        return self


class Tenant(Strict):
    """What one tenant may use of each front door. Doors do not count together: two let through twice."""

    rate: int | None = Field(default=None, ge=1)
    """Requests per second; unlimited by default."""
    burst: int | None = Field(default=None, ge=1)
    """Requests at once after a pause; by default as many as in a second."""
    concurrency: int | None = Field(default=None, ge=1)
    """Requests at the same time; unlimited by default."""


class Access(Strict):
    """Callers show an API key (`headend keys create`), or a token of one of the issuers."""

    jwt: list[Jwt] = []
    """Issuers whose tokens are taken; none by default."""
    tenants: dict[Name, Tenant] = {}
    """Limits by tenant; one that is not named has none."""

    def placed(self, directory: Path) -> Self:
        """The same, with files relative to `directory`. Raises `DeclarationError` when one is missing."""
        return self.model_copy(update={"jwt": [_placed(each, directory) for each in self.jwt]})


def _placed(issuer: Jwt, directory: Path) -> Jwt:
    files = {"authorities": issuer.authorities, "jwks": None if issuer.is_remote else issuer.jwks}
    found = {name: str((directory / file).absolute()) for name, file in files.items() if file}
    for name, path in found.items():
        if not Path(path).is_file():
            raise DeclarationError(
                f"`{name}` of issuer {issuer.issuer}: there is no file {path}.",
                hint="`jwks` is a JSON Web Key Set or its https URL, `authorities` a PEM file.",
            )
    return issuer.model_copy(update=found)
