"""Small shapes that Envoy's resources are made of, as plain JSON objects."""

from __future__ import annotations

from typing import Any

from serving.router import protocol
from serving.router.view import Address

Json = dict[str, Any]


def socket_address(address: Address) -> Json:
    """Where to listen or connect."""
    return {"socket_address": {"address": address.ip, "port_value": address.port}}


def path_regex(pattern: str) -> Json:
    """Matches requests whose whole path fits `pattern` (RE2)."""
    return {"safe_regex": {"regex": pattern}}


def grpc_method(name: str) -> Json:
    """Matches gRPC calls of the inference service's method `name`."""
    return {"path": f"/{protocol.SERVICE}/{name}", "grpc": {}}


def grpc_methods(*names: str) -> Json:
    """Matches gRPC calls of the inference service's methods `names`."""
    service = protocol.SERVICE.replace(".", "[.]")
    return {**path_regex(f"/{service}/({'|'.join(names)})"), "grpc": {}}


def has(name: str) -> Json:
    """Matches requests with the header `name`."""
    return {"name": name, "present_match": True}


def equals(name: str, value: str) -> Json:
    """Matches requests whose header `name` is `value`."""
    return {"name": name, "string_match": {"exact": value}}


def unless(matcher: Json) -> Json:
    """The opposite of a header matcher."""
    return {**matcher, "invert_match": True}


def set_header(name: str, value: str) -> Json:
    """Sets a header, whatever it was."""
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def per_route(*, enabled: bool) -> Json:
    """Turns a filter of the listener on or off for one route."""
    state: Json = {"config": {}} if enabled else {"disabled": True}
    return {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", **state}


def extension(name: str, message: str, **fields: Any) -> Json:
    """A named extension with its configuration message (`package.v3.Message`)."""
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/{message}", **fields}}
