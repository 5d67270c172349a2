"""Mutual TLS between sites, by the certificates of the fleet's authority (see `serving.identity`), and TLS of
front doors to clients.

Envoy reads the files itself and watches their directory: a renewed certificate or a new list of revoked ones
counts for connections made from then on. So connections live for a minute at most; they end between requests.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from serving.identity import SiteIdentity, server_name, spiffe_id
from serving.router.view import FleetView, SiteView
from serving.router.xds import Json, extension

CONNECTION_LIFE = "60s"
"""So long can a revoked site use a connection that it has; a new one costs two round trips and some CPU."""

Secrets = Callable[[str], Json]
"""The config source of a secret by its name."""

_TLS = "envoy.extensions.transport_sockets.tls.v3"
_MATCH = "envoy.transport_socket_match"


def secrets(view: FleetView) -> dict[str, list[Json]]:
    """Envoy's `Secret`s by name: what the front door shows to clients; the site's own certificate, and whom
    it believes, where it has an identity.
    """
    return {**_door_secret(view), **_peer_secrets(view)}


def of_front_door(view: FleetView, source: Secrets) -> Json:
    """What the filter chain of the front door needs: TLS, with HTTP/1.1, HTTP/2 and gRPC on the one port."""
    if view.certificate is None:
        return {}
    return {
        "transport_socket": extension(
            "envoy.transport_sockets.tls",
            f"{_TLS}.DownstreamTlsContext",
            common_tls_context={
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificate_sds_secret_configs": [{"name": "door", "sds_config": source("door")}],
            },
        )
    }


def _door_secret(view: FleetView) -> dict[str, list[Json]]:
    if view.certificate is None:
        return {}
    shown = {
        "certificate_chain": {"filename": str(view.certificate.certificate)},
        "private_key": {"filename": str(view.certificate.key)},
        "watched_directory": {"path": str(view.certificate.certificate.parent)},
    }
    kind = {"@type": f"type.googleapis.com/{_TLS}.Secret"}
    return {"door": [{**kind, "name": "door", "tls_certificate": shown}]}


def _peer_secrets(view: FleetView) -> dict[str, list[Json]]:
    if view.identity is None:
        return {}
    identity = SiteIdentity(Path(view.identity))
    watched = {"watched_directory": {"path": str(identity.path)}}
    # One file for both, so that no reader ever sees a key beside the certificate of another.
    pair = {"filename": str(identity.key)}
    own = {"tls_certificate": {"certificate_chain": pair, "private_key": pair, **watched}}
    trust = {
        "validation_context": {
            "trusted_ca": {"filename": str(identity.authorities)},
            "crl": {"filename": str(identity.revoked)},
            **watched,
        }
    }
    kind = {"@type": f"type.googleapis.com/{_TLS}.Secret"}
    return {name: [{**kind, "name": name, **each}] for name, each in (("own", own), ("trust", trust))}


def of_listener(view: FleetView, source: Secrets) -> Json:
    """What a filter chain of the peer listener needs so that only sites of this fleet get in."""
    if view.identity is None:
        return {}
    sites = {"san_type": "URI", "matcher": {"prefix": spiffe_id(view.fleet, "")}}
    return {
        "transport_socket": extension(
            "envoy.transport_sockets.tls",
            f"{_TLS}.DownstreamTlsContext",
            require_client_certificate=True,
            common_tls_context=_common(source, ["h2", "http/1.1"], match_typed_subject_alt_names=[sites]),
        )
    }


def of_cluster(view: FleetView, source: Secrets) -> Json:
    """What a cluster needs that has sites' peer listeners as endpoints.

    Each must show the certificate of the very site that the endpoint names (`of_endpoint`): one context
    serves them all, and health checks too.
    """
    if view.identity is None:
        return {}
    socket = extension(
        "envoy.transport_sockets.tls",
        f"{_TLS}.UpstreamTlsContext",
        auto_host_sni=True,
        auto_sni_san_validation=True,
        common_tls_context=_common(source, []),
    )
    plain = extension(
        "envoy.transport_sockets.raw_buffer", "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
    )
    return {
        "transport_socket_matches": [
            {"name": "peer", "match": {"peer": "yes"}, "transport_socket": socket},
            {"name": "local", "match": {}, "transport_socket": plain},
        ]
    }


def of_endpoint(view: FleetView, site: SiteView) -> tuple[Json, Json]:
    """What a site's peer listener carries as an endpoint: fields, and metadata that chooses its transport."""
    if view.identity is None:
        return {}, {}
    return {"hostname": server_name(view.fleet, site.name)}, {_MATCH: {"peer": "yes"}}


def connection_life(view: FleetView) -> Json:
    """HTTP options of connections between sites, at either end."""
    bounded = {"common_http_protocol_options": {"max_connection_duration": CONNECTION_LIFE}}
    return bounded if view.identity else {}


def _common(source: Secrets, protocols: list[str], **checks: object) -> Json:
    trust = {"name": "trust", "sds_config": source("trust")}
    return {
        # TLS 1.3 alone: both ends are ours.
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
        },
        **({"alpn_protocols": protocols} if protocols else {}),
        "tls_certificate_sds_secret_configs": [{"name": "own", "sds_config": source("own")}],
        "combined_validation_context": {
            "default_validation_context": checks,
            "validation_context_sds_secret_config": trust,
        },
    }
