"""`fleet.yaml`: all a person writes to run a fleet. Each subject has a module; this is their public face."""

from serving.fleet.access import (
    IDENTITY_HEADERS,
    KEY_HEADER,
    PEER_HEADER,
    ROLES_HEADER,
    TENANT_HEADER,
    TOP_CLASS_HEADER,
)
from serving.fleet.classes import CLASS_HEADER, CLASSES, DEFAULT_CLASS, Class
from serving.fleet.declaration import (
    ALIASES,
    AppName,
    AppUse,
    Fleet,
    HostPort,
    Limits,
    ModelUse,
    Site,
    demo_fleet,
)
from serving.fleet.rollout import Rollout
from serving.fleet.tracing import Tracing

__all__ = [
    "ALIASES",
    "CLASSES",
    "CLASS_HEADER",
    "DEFAULT_CLASS",
    "IDENTITY_HEADERS",
    "KEY_HEADER",
    "PEER_HEADER",
    "ROLES_HEADER",
    "TENANT_HEADER",
    "TOP_CLASS_HEADER",
    "AppName",
    "AppUse",
    "Class",
    "Fleet",
    "HostPort",
    "Limits",
    "ModelUse",
    "Rollout",
    "Site",
    "Tracing",
    "demo_fleet",
]
