"""Who may call a front door."""

from __future__ import annotations

TENANT_HEADER = "x-headend-tenant"
"""On requests behind a front door: on whose account they are."""
KEY_HEADER = "x-headend-key"
"""The id of the API key, if the request came with one."""
ROLES_HEADER = "x-headend-roles"
"""What the caller may do: `infer`, `operate` or both, separated by spaces."""
TOP_CLASS_HEADER = "x-headend-top-class"
"""The most urgent class that the caller may ask for; absent where every class is open to all."""
PEER_HEADER = "x-headend-peer"
"""On requests from another site: its SPIFFE id, from its certificate."""
IDENTITY_HEADERS = (TENANT_HEADER, KEY_HEADER, ROLES_HEADER, TOP_CLASS_HEADER, PEER_HEADER)
"""Set by front doors only; removed from whatever a client sends."""
