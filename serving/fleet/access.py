"""Who may call the front doors, and how much of them.

A front door that only this machine can reach is open where nothing is declared; any other has to say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, StringConstraints

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
IDENTITY_HEADERS = (
    TENANT_HEADER,
    KEY_HEADER,
    ROLES_HEADER,
    TOP_CLASS_HEADER,
    CREDENTIAL_HEADER,
    PEER_HEADER,
)
"""Set by front doors only; removed from whatever a client sends."""

Role = Literal["infer", "operate"]
"""`infer`: ask apps and models. `operate`: read the models' statistics, which tell of all tenants' load.
Management of the parts is open to neither."""
ROLES: tuple[Role, ...] = get_args(Role)

Claim = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_:./-]{1,128}$")]


class Jwt(Strict):
    """An issuer of JSON Web Tokens (RFC 7519) that callers may show as `Authorization: Bearer`."""

    issuer: str = Field(min_length=1)
    """What the token's `iss` must be."""
    audiences: list[str] = Field(min_length=1)
    """One of them must be in the token's `aud`: a token made for another service is refused."""
    jwks: str = Field(min_length=1)
    """The issuer's public keys (RFC 7517): a file, relative to the fleet file and re-read when it changes, or
    an https URL, fetched every ten minutes."""
    tenant: Claim = "sub"
    """The claim that names the tenant."""
    roles: Claim = "scope"
    """The claim that holds roles, separated by spaces (OAuth 2.0's `scope`)."""
    highest_class: Claim = "headend_class"
    """The claim that holds the most urgent class allowed; a token without it may ask for `interactive`."""

    @property
    def is_remote(self) -> bool:
        """Whether the keys are fetched."""
        return self.jwks.startswith("https://")


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
        found = []
        for each in self.jwt:
            path = each.jwks if each.is_remote else str((directory / each.jwks).absolute())
            if not each.is_remote and not Path(path).is_file():
                raise DeclarationError(
                    f"The keys of issuer {each.issuer}: there is no file {path}.",
                    hint="`jwks` is a file with a JSON Web Key Set, or its https URL.",
                )
            found.append(each.model_copy(update={"jwks": path}))
        return self.model_copy(update={"jwt": found})
