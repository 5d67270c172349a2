"""Tokens of other issuers (JWT), checked by Envoy against the issuers' public keys."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

import certifi

from serving.fleet import ROLES_HEADER, TENANT_HEADER, TOP_CLASS_HEADER, Jwt
from serving.router.view import FleetView
from serving.router.xds import Json, extension


def check(issuers: Sequence[Jwt]) -> Json:
    """Envoy's JWT authentication: some issuer's token, and its claims as headers."""
    providers = {f"issuer-{index}": _provider(index, each) for index, each in enumerate(issuers)}
    any_of = [{"provider_name": name} for name in providers]
    requires = any_of[0] if len(any_of) == 1 else {"requires_any": {"requirements": any_of}}
    return extension(
        "envoy.filters.http.jwt_authn",
        "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        providers=providers,
        rules=[{"match": {"prefix": "/"}, "requires": requires}],
    )


def clusters(view: FleetView) -> list[Json]:
    """Where issuers' keys are fetched."""
    issuers = view.access.jwt if view.access else []
    return [_issuer_cluster(index, each) for index, each in enumerate(issuers) if each.is_remote]


def _provider(index: int, issuer: Jwt) -> Json:
    claims = {
        TENANT_HEADER: issuer.tenant,
        ROLES_HEADER: issuer.roles,
        TOP_CLASS_HEADER: issuer.highest_class,
    }
    if issuer.is_remote:
        uri = {"uri": issuer.jwks, "cluster": f"issuer-{index}", "timeout": "5s"}
        found: Json = {
            "remote_jwks": {"http_uri": uri, "cache_duration": "600s", "async_fetch": {"fast_listener": True}}
        }
    else:
        path = Path(issuer.jwks)
        watched = {"watched_directory": {"path": str(path.parent)}}
        found = {"local_jwks": {"filename": str(path), **watched}}
    return {
        "issuer": issuer.issuer,
        "audiences": issuer.audiences,
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "claim_to_headers": [{"header_name": name, "claim_name": claim} for name, claim in claims.items()],
        # Checking a signature costs a tenth of a millisecond; a token is shown many times.
        "jwt_cache_config": {"jwt_cache_size": 1000},
        **found,
    }


def _issuer_cluster(index: int, issuer: Jwt) -> Json:
    host, _, port = issuer.jwks.removeprefix("https://").partition("/")[0].partition(":")
    address = {"socket_address": {"address": host, "port_value": int(port or 443)}}
    name = f"issuer-{index}"
    return {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "STRICT_DNS",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "transport_socket": extension(
            "envoy.transport_sockets.tls",
            "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            sni=host,
            common_tls_context={
                "validation_context": {
                    "trusted_ca": {"filename": _authorities()},
                    "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": host}}],
                }
            },
        ),
    }


def _authorities() -> str:
    """The file of public authorities that this machine trusts, else that of the package `certifi`."""
    return ssl.get_default_verify_paths().cafile or certifi.where()
