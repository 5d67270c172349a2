"""Tokens of other issuers (JWT), checked by Envoy against the issuers' public keys.

Keys of a URL are fetched by the site's agent into a file: Envoy 1.40 would fetch them itself, but forgets
them when their time is over while the URL is away. So what was fetched once counts until newer keys come,
after a start without a WAN too. A new key at the URL counts when it is fetched next: an issuer shows it as
long before it signs with it (OpenID Connect Core 1.0, section 10.1.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from serving.fleet import ROLES_HEADER, TENANT_HEADER, TOP_CLASS_HEADER, Jwt
from serving.router.xds import Json, extension

_NOWHERE = {"uri": "http://none/", "cluster": "none", "timeout": "1s"}
"""Where Envoy finds no keys: it then says that they could not be fetched."""


def check(issuers: Sequence[Jwt], fetched: Path) -> Json:
    """Envoy's JWT authentication: some issuer's token, and its claims as headers. `fetched`: the directory of
    keys that were fetched.
    """
    providers = {f"issuer-{index}": _provider(each, fetched) for index, each in enumerate(issuers)}
    any_of = [{"provider_name": name} for name in providers]
    requires = any_of[0] if len(any_of) == 1 else {"requires_any": {"requirements": any_of}}
    return extension(
        "envoy.filters.http.jwt_authn",
        "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        providers=providers,
        rules=[{"match": {"prefix": "/"}, "requires": requires}],
    )


def keys_file(issuer: Jwt, fetched: Path) -> Path:
    """Where the issuer's keys are. One that is fetched is named by its URL, so that the keys of one issuer
    never become another's.
    """
    if not issuer.is_remote:
        return Path(issuer.jwks)
    return fetched / f"{sha256(issuer.jwks.encode()).hexdigest()[:16]}.json"


def _provider(issuer: Jwt, fetched: Path) -> Json:
    claims = {
        TENANT_HEADER: issuer.tenant,
        ROLES_HEADER: issuer.roles,
        TOP_CLASS_HEADER: issuer.highest_class,
    }
    return {
        "issuer": issuer.issuer,
        "audiences": issuer.audiences,
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "claim_to_headers": [{"header_name": name, "claim_name": claim} for name, claim in claims.items()],
        # Checking a signature costs a tenth of a millisecond; a token is shown many times.
        "jwt_cache_config": {"jwt_cache_size": 1000},
        **_keys(issuer, keys_file(issuer, fetched)),
    }


def _keys(issuer: Jwt, file: Path) -> Json:
    if not issuer.is_remote:
        watched = {"path": str(file.parent)}
        return {"local_jwks": {"filename": str(file), "watched_directory": watched}}
    if not file.is_file():
        return {"remote_jwks": {"http_uri": _NOWHERE}}
    return {"local_jwks": {"inline_string": file.read_text("utf-8")}}
