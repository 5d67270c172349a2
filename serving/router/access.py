"""Envoy's filters that ask who calls, in the order they stand before all others.

An API key goes through two: a script that recognises it and knows what it allows (roles, class), and basic
authentication, which knows the secret's digest. Both are files of their own (ECDS), so that a change of the
keys counts from the next request on, on connections that are open too. A token goes through JWT
authentication, and a script for what it allows. Then come the tenant's limits.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from serving.fleet import (
    CREDENTIAL_HEADER,
    KEY_HEADER,
    TENANT_HEADER,
    Access,
    Tenant,
)
from serving.identity import ApiKey
from serving.router import protocol, scripts, tokens
from serving.router.view import FleetView
from serving.router.xds import Json, extension, per_route

NEVER_FORWARDED = ("authorization", "x-api-key", CREDENTIAL_HEADER)
"""Headers that hold secrets: no app, model or other site sees them."""

DENIED = "Your key or token does not have the role that this call needs."
_TOO_FAST = "Your tenant sends more requests a second than it may."
_TOO_MANY = "Your tenant has as many requests under way as it may."

_HTTP = "envoy.extensions.filters.http"
_HINT = "Send an API key as `Authorization: Bearer hk_…` or `x-api-key: hk_…`{tokens}."
_WRONG = "This API key is not known here, or was revoked."
_NOBODY = f"nobody:{{SHA}}{base64.b64encode(bytes(20)).decode()}"
"""Envoy takes no empty list; no secret is known that has this digest."""
_NO_KEYS = "Your token cannot be checked yet: its issuer's keys could not be fetched so far."
_NAMELESS = "This token does not say which tenant it is of."


def filters(view: FleetView, keys: Callable[[str], Json]) -> list[Json]:
    """The front door's filters; none where it is open. `keys(name)`: the source of one of `files`."""
    if view.access is None:
        return []
    issuers = view.access.jwt
    return [
        _discovered("headend.api_key", f"{_HTTP}.lua.v3.Lua", keys("api-key")),
        # Where there are no tokens, every request that comes so far has a key.
        *(
            [_discovered("headend.key_or_token", _MATCHED, keys("key-or-token"))]
            if issuers
            else [_discovered("headend.key_check", f"{_HTTP}.basic_auth.v3.BasicAuth", keys("key-check"))]
        ),
        *([_discovered("headend.jwt", _MATCHED, keys("tokens")), _token_script()] if issuers else []),
        *_limits(view.access),
    ]


def files(access: Access, keys: Sequence[ApiKey], fetched: Path) -> dict[str, list[Json]]:
    """What depends on the keys, by file name: the script, the digests, and what checks tokens. `fetched`: the
    directory of issuers' keys that were fetched.
    """
    valid = [key for key in keys if not key.revoked]
    check = _key_check(valid)
    return {
        **(
            {
                "key-or-token": [_resource("headend.key_or_token", _with_key_only(check))],
                **token_file(access, fetched),
            }
            if access.jwt
            else {"key-check": [_resource("headend.key_check", check)]}
        ),
        "api-key": [_resource("headend.api_key", _script(access, valid))],
    }


def token_file(access: Access, fetched: Path) -> dict[str, list[Json]]:
    """What depends on issuers' keys alone; requests with an API key have passed already."""
    check = _skip_if("headend.jwt", KEY_HEADER, True, tokens.check(access.jwt, fetched))
    return {"tokens": [_resource("headend.jwt", check)]}


def open_to_all(view: FleetView) -> Json:
    """What a route needs in `typed_per_filter_config` that asks for no key."""
    return {each["name"]: per_route(enabled=False) for each in filters(view, lambda _: {})}


class Refusal(NamedTuple):
    """One way in which these filters end a request."""

    begin: str
    """How Envoy's details of the answer begin."""
    sentence: str
    """To be said instead of Envoy's."""
    grpc_status: str | None = None
    """Of what is worth asking again in a second."""
    status: int | None = None
    """HTTP status, where Envoy's own misleads."""


def refusals(view: FleetView) -> Iterator[Refusal]:
    """Every one that needs other words than Envoy's."""
    if view.access is not None:
        yield Refusal("invalid_credential_for_basic_auth", _WRONG)
        yield Refusal("local_rate_limited", _TOO_FAST, "8")
        yield Refusal("reached_concurrency_limit", _TOO_MANY, "8")
        if any(issuer.is_remote for issuer in view.access.jwt):
            yield Refusal("jwt_authn_access_denied{Jwks_remote_fetch_is_failed", _NO_KEYS, "14", 503)


def _discovered(name: str, kind: str, source: Json) -> Json:
    return {
        "name": name,
        "config_discovery": {"config_source": source, "type_urls": [f"type.googleapis.com/{kind}"]},
    }


def _resource(name: str, config: Json) -> Json:
    return {"@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig", **config, "name": name}


def _script(access: Access, keys: Sequence[ApiKey]) -> Json:
    or_token = " or a token of your issuer as `Authorization: Bearer …`" if access.jwt else ""
    return scripts.http_filter(
        "headend.api_key",
        "roles",
        "api_key",
        keys=f"{{{','.join(map(_row, keys))}}}",
        tokens="true" if access.jwt else "false",
        none=json.dumps(f"Who are you? {_HINT.format(tokens=or_token)}", ensure_ascii=False),
        wrong=json.dumps(_WRONG),
        **_ROLES,
    )


def _row(key: ApiKey) -> str:
    """What a key allows, as Lua."""
    texts = {"tenant": key.tenant, "roles": " ".join(key.roles), "class": key.highest_class}
    fields = [f'{name}="{value}"' for name, value in texts.items()]
    return f'["{key.id}"]={{{",".join([*fields, *(f"{role}=true" for role in key.roles)])}}}'


_MATCHED = "envoy.extensions.common.matching.v3.ExtensionWithMatcher"


def _key_check(keys: Sequence[ApiKey]) -> Json:
    """Basic authentication."""
    users = "".join(f"{key.id}:{{SHA}}{key.digest}\n" for key in keys)
    return extension(
        "envoy.filters.http.basic_auth",
        f"{_HTTP}.basic_auth.v3.BasicAuth",
        users={"inline_string": users or _NOBODY},
        forward_username_header=KEY_HEADER,
        authentication_header=CREDENTIAL_HEADER,
    )


def _with_key_only(check: Json) -> Json:
    """`check`, of requests with a key only; tokens are looked at after it."""
    return _skip_if("headend.key_or_token", CREDENTIAL_HEADER, False, check)


def _skip_if(name: str, header: str, present: bool, filter: Json) -> Json:
    """`filter`, skipped by requests that have `header`, or by those that have not."""
    found = {"single_predicate": {"input": _header_input(header), "value_match": {"safe_regex": _ANYTHING}}}
    skip = {"name": "skip", "typed_config": {"@type": f"type.googleapis.com/{_SKIP}"}}
    condition = found if present else {"not_matcher": found}
    matchers = [{"predicate": condition, "on_match": {"action": skip}}]
    return extension(
        name, _MATCHED, extension_config=filter, xds_matcher={"matcher_list": {"matchers": matchers}}
    )


_ANYTHING = {"google_re2": {}, "regex": ".+"}
_SKIP = "envoy.extensions.filters.common.matcher.action.v3.SkipFilter"


def _header_input(name: str) -> Json:
    kind = "envoy.type.matcher.v3.HttpRequestHeaderMatchInput"
    return extension("request-header", kind, header_name=name)


def _token_script() -> Json:
    """What looks at what a token allows."""
    name, nameless = "envoy.filters.http.lua", json.dumps(_NAMELESS)
    denied = json.dumps(DENIED)
    script = scripts.http_filter(name, "roles", "token", nameless=nameless, denied=denied, **_ROLES)
    return _skip_if("headend.token", KEY_HEADER, True, script)


def _pattern(*, prefix: str = "", path: str = "", suffix: str = "") -> str:
    """A Lua pattern of paths (without their query), as a Lua string."""
    escaped = re.sub(r"([^A-Za-z0-9])", r"%\1", prefix or path or suffix)
    return json.dumps(f"{'' if suffix else '^'}{escaped}{'' if prefix else '$'}")


def _patterns(*patterns: str) -> str:
    return f"{{{','.join(patterns)}}}"


_ROLES = {
    "inference": _patterns(
        _pattern(prefix="/v1/audio/"),
        _pattern(path="/v1/moderations"),
        *(_pattern(suffix=f"/{name}") for name in ("infer", "generate", "generate_stream")),
        *(_pattern(path=f"/{protocol.SERVICE}/{name}") for name in ("ModelInfer", "ModelStreamInfer")),
    ),
    "statistics": _patterns(_pattern(suffix="/stats"), _pattern(path=f"/{protocol.SERVICE}/ModelStatistics")),
}
"""For the scripts: what only callers of one role may ask."""


def _limits(access: Access) -> Iterator[Json]:
    rated = {name: each for name, each in access.tenants.items() if each.rate}
    if rated:
        yield _rates(rated)
    counted = {name: each.concurrency for name, each in access.tenants.items() if each.concurrency}
    if counted:
        yield _concurrency(counted)


def _rates(tenants: dict[str, Tenant]) -> Json:
    by_tenant = {"request_headers": {"header_name": TENANT_HEADER, "descriptor_key": "tenant"}}
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return extension(
        "headend.rates",
        f"{_HTTP}.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="rates",
        filter_enabled=always,
        filter_enforced=always,
        rate_limits=[{"actions": [by_tenant]}],
        descriptors=[
            {"entries": [{"key": "tenant", "value": name}], "token_bucket": _bucket(each)}
            for name, each in tenants.items()
        ],
        # Whoever is not named is not limited.
        token_bucket={"max_tokens": 1_000_000_000, "tokens_per_fill": 1_000_000_000, "fill_interval": "1s"},
        always_consume_default_token_bucket=False,
        rate_limited_as_resource_exhausted=True,
    )


def _bucket(tenant: Tenant) -> Json:
    rate = tenant.rate or 1
    return {"max_tokens": tenant.burst or rate, "tokens_per_fill": rate, "fill_interval": "1s"}


def _concurrency(tenants: dict[str, int]) -> Json:
    """A filter of each tenant: Envoy's adaptive concurrency, with lowest and highest limit the same."""
    chosen = {name: {"action": _delegate(limit)} for name, limit in tenants.items()}
    return extension(
        "headend.concurrency",
        _MATCHED,
        extension_config=extension("composite", f"{_HTTP}.composite.v3.Composite"),
        xds_matcher={
            "matcher_tree": {"input": _header_input(TENANT_HEADER), "exact_match_map": {"map": chosen}}
        },
    )


def _delegate(limit: int) -> Json:
    fixed = {
        "concurrency_limit_params": {
            "max_concurrency_limit": limit,
            "concurrency_update_interval": "60s",
        },
        "min_rtt_calc_params": {"fixed_value": "1s", "min_concurrency": limit},
    }
    return extension(
        "concurrency",
        f"{_HTTP}.composite.v3.ExecuteFilterAction",
        typed_config=extension(
            "envoy.filters.http.adaptive_concurrency",
            f"{_HTTP}.adaptive_concurrency.v3.AdaptiveConcurrency",
            gradient_controller_config=fixed,
            enabled={"default_value": True, "runtime_key": "headend.none"},
            concurrency_limit_exceeded_status={"code": "TooManyRequests"},
        ),
    )
