"""`fleet.yaml`: all a person writes to run a fleet. Each subject has a module; this is their public face."""

from serving.fleet.access import (
    IDENTITY_HEADERS,
    KEY_HEADER,
    PEER_HEADER,
    ROLES_HEADER,
    TENANT_HEADER,
    TOP_CLASS_HEADER,
)
from serving.fleet.balancing import Balancing, Economy, Placement, Tag, Uplink, may_answer
from serving.fleet.classes import (
    ATTEMPTS,
    CLASS_HEADER,
    CLASSES,
    DEADLINE_HEADER,
    DEFAULT_CLASS,
    PATIENCE,
    PRIORITY,
    QUEUE_SHARE,
    RETRY_AFTER_S,
    Class,
)
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
    "ATTEMPTS",
    "CLASSES",
    "CLASS_HEADER",
    "DEADLINE_HEADER",
    "DEFAULT_CLASS",
    "IDENTITY_HEADERS",
    "KEY_HEADER",
    "PATIENCE",
    "PEER_HEADER",
    "PRIORITY",
    "QUEUE_SHARE",
    "RETRY_AFTER_S",
    "ROLES_HEADER",
    "TENANT_HEADER",
    "TOP_CLASS_HEADER",
    "AppName",
    "AppUse",
    "Balancing",
    "Class",
    "Economy",
    "Fleet",
    "HostPort",
    "Limits",
    "ModelUse",
    "Placement",
    "Rollout",
    "Site",
    "Tag",
    "Tracing",
    "Uplink",
    "demo_fleet",
    "may_answer",
]
