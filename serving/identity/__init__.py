"""Who a site is: a certificate from the fleet's own authority, shown to other sites over mutual TLS."""

from serving.identity.authority import Authority, Register
from serving.identity.files import (
    SiteIdentity,
    authority_directory,
    client_context,
    server_name,
    spiffe_id,
)

__all__ = [
    "Authority",
    "Register",
    "SiteIdentity",
    "authority_directory",
    "client_context",
    "server_name",
    "spiffe_id",
]
