"""Who a site is: a certificate from the fleet's own authority, shown to other sites over mutual TLS."""

from serving.identity.authority import Authority, Register
from serving.identity.files import (
    SiteIdentity,
    authority_directory,
    client_context,
    server_name,
    spiffe_id,
)
from serving.identity.keys import ApiKey, KeyStore

__all__ = [
    "ApiKey",
    "Authority",
    "KeyStore",
    "Register",
    "SiteIdentity",
    "authority_directory",
    "client_context",
    "server_name",
    "spiffe_id",
]
