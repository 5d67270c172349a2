"""Who a site is: a certificate from the fleet's own authority, shown to other sites over mutual TLS."""

from serving.identity import certificates, requests
from serving.identity.authority import Authority
from serving.identity.files import (
    SiteIdentity,
    authority_directory,
    client_context,
    server_name,
    spiffe_id,
)
from serving.identity.keys import ApiKey, KeyStore
from serving.identity.register import Register

__all__ = [
    "ApiKey",
    "Authority",
    "KeyStore",
    "Register",
    "SiteIdentity",
    "authority_directory",
    "certificates",
    "client_context",
    "requests",
    "server_name",
    "spiffe_id",
]
