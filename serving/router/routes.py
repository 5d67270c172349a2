"""Envoy's routes: which pool a request belongs to, and how it is carried there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from serving.fleet import ATTEMPTS, CLASS_HEADER, CLASSES, DEFAULT_CLASS, RETRY_AFTER_S, Class
from serving.router import access, admission, answers, canary, protocol
from serving.router.calls import MODEL_CALLS, MODEL_HEADER, SERVER_CALLS, UNNAMED_CALLS, Call
from serving.router.clusters import AGENT, away_cluster, home_cluster, local_cluster
from serving.router.health import readiness_path
from serving.router.matching import by_header, by_path, by_path_prefix, routes
from serving.router.replies import REFUSED_HEADER
from serving.router.view import SERVER, FleetView, Pool
from serving.router.xds import (
    Json,
    equals,
    extension,
    has,
    per_route,
    set_header,
)

Scope = Literal["fleet", "local"]
"""Whether another site may be asked."""

HOP_HEADER = "x-headend-hop"
"""`1` on what has come from another site: such a request goes no further. `denied` on what the front door's
filters let through only to be refused: its caller is known, and lacks a role."""
SITE_HEADER = "x-headend-site"
"""On answers: the site that gave them."""
SITE = "%METADATA(UPSTREAM_HOST:headend:site)%"
"""Envoy's operator for the site that a request went to."""

REPLAY_BYTES = 16 * 1024 * 1024
"""A request body up to this size is kept until its answer begins, so that another site can be asked;
a larger one streams through and is retried only while no more than this of it has been sent."""
AGENT_TIMEOUT = "5s"
"""Agents ask again in half a second, and do not wait for an answer so late."""
STREAM_MAX_AGE = "3600s"
"""A bidirectional stream stays on one host for life, so its life is bounded; clients reopen it."""

NAME_OF_STREAM = ("envoy.filters.http.grpc_field_extraction", "headend.stream_name")
NAME_OF_CALL = ("headend.model_name",)
"""The listeners' filters that find the model's name in a stream's first message, and in a call's."""

UPLOAD_S = 60
"""The limit on a request's time counts from when all of the request has arrived; until then it may take so
much longer. Servers are told the later end (`grpc-timeout`): theirs must not come at the same moment as the
front door's own, or chance decides whose words a client reads."""

_APP_PATHS = {"subtitles": ["/v1/audio/"], "review": ["/v1/moderations"]}
_MODEL_METHODS_PREFIX = f"/{protocol.SERVICE}/Model"
_LOST = "connect-failure,refused-stream,reset"
"""Ways of getting no answer at all."""
_RETRY = "envoy.extensions.retry"
_BACK_OFF = {"base_interval": "0.005s", "max_interval": "0.1s"}
_NO_SUCH_MODEL = equals("grpc-status", "5")


def front_door(view: FleetView, out: Path) -> Json:
    """Routes of the listener that clients use; `out` is Envoy's directory."""
    site = view.local.name
    no_further = answers.refuse(
        {"prefix": "/"},
        503,
        f"Site {site} does not serve this, and what came from elsewhere goes no further.",
    )
    own = list(answers.own(view))
    tree = by_header(
        HOP_HEADER,
        {
            "1": _tree(view, "local", own, [no_further]),
            **({"denied": routes([answers.denied()])} if view.access else {}),
        },
        _tree(view, "fleet", own, answers.unknown(view)),
    )
    return _configuration(
        "front-door",
        tree,
        {
            "response_headers_to_add": [set_header(SITE_HEADER, SITE)],
            # `x-envoy-attempt-count`: load tests show how often the fleet had to ask again.
            "include_attempt_count_in_response": True,
            # … and other sites turn back first attempts only (`admission`).
            "include_request_attempt_count": True,
            **({"request_headers_to_remove": list(access.NEVER_FORWARDED)} if view.access else {}),
        },
        admission.specifiers(view, out, peer=False),
    )


def peer(view: FleetView, out: Path) -> Json:
    """Routes of the listener where other sites' front doors knock: to this site's own parts only."""
    here = [pool for pool in view.pools if view.local.answers(pool)]
    readiness = [
        _forward(view, Call({"path": readiness_path(pool)}, is_question=True), pool, "local", None)
        for pool in here
        if pool.kind == "app"
    ]
    draining = {
        readiness_path(pool): routes([answers.draining(view, pool)])
        for pool in here
        if view.transition.draining
    }
    return _configuration(
        "peer",
        _tree(view, "local", [*_agent(view), *readiness], answers.unknown(view), draining),
        {"request_headers_to_add": [set_header(HOP_HEADER, "1")]},
        admission.specifiers(view, out, peer=True),
    )


def _agent(view: FleetView) -> Iterator[Json]:
    """What agents of other sites tell this one's, and nothing else of what it answers."""
    if view.ports.agent:
        yield {
            "match": {"path_separated_prefix": "/-/agent"},
            "route": {"cluster": AGENT, "timeout": AGENT_TIMEOUT},
        }


def _configuration(name: str, tree: Json, headers: Json, specifiers: Sequence[Json]) -> Json:
    host = {"name": name, "domains": ["*"], **tree, **headers}
    return {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": name,
        # The list of models may outgrow Envoy's default of 4 KiB.
        "max_direct_response_body_size_bytes": 1 << 20,
        "virtual_hosts": [host],
        **({"cluster_specifier_plugins": list(specifiers)} if specifiers else {}),
    }


def _tree(
    view: FleetView,
    scope: Scope,
    own: Sequence[Json],
    unknown: Sequence[Json],
    first: Mapping[str, Json] | None = None,
) -> Json:
    """The matcher of one virtual host: to every pool's clusters of `scope`, else one of the other routes.

    `first`: what else there is by the path's prefix; the longest is taken.
    """
    pools = [pool for pool in view.pools if scope == "fleet" or view.local.answers(pool)]
    management = list(answers.management())
    calls = SERVER_CALLS if SERVER in pools else []
    rest = [*(_forward(view, call, SERVER, scope, None) for call in calls), *unknown]
    branches = dict(first or {})
    for pool in pools:
        if pool.kind == "app":
            branches |= {
                prefix: _by_class(view, [Call({"prefix": prefix})], pool, scope)
                for prefix in _APP_PATHS[pool.name]
            }
        if pool.kind == "model":
            about = _forward(view, Call({"prefix": "/"}, is_question=True), pool, scope, None)
            branches[f"/v2/models/{pool.name}"] = by_path(
                {
                    protocol.inference_path(pool.name): _by_class(view, [Call({"prefix": "/"})], pool, scope),
                    protocol.model_path(pool.name): routes([about]),
                },
                routes([*management, answers.nothing_at(pool.name), *rest]),
            )
    if SERVER in pools:
        named = {
            pool.name: _by_class(view, MODEL_CALLS, pool, scope) for pool in pools if pool.kind == "model"
        }
        unnamed = [_forward(view, call, SERVER, scope, None) for call in UNNAMED_CALLS]
        branches[_MODEL_METHODS_PREFIX] = by_header(MODEL_HEADER, named, routes([*unnamed, *rest]))
    return by_path_prefix(branches, routes([*own, *management, *rest]))


def _by_class(view: FleetView, calls: Sequence[Call], pool: Pool, scope: Scope) -> Json:
    """Leads by the class that the request names; one that names none has the pool's."""

    def forward(class_: Class, *, named: bool) -> list[Json]:
        return [_forward(view, call._replace(names_class=named), pool, scope, class_) for call in calls]

    bad_class, bad_deadline = answers.invalid()
    named: dict[str, Json] = {each: routes([bad_deadline, *forward(each, named=True)]) for each in CLASSES}
    default = forward(view.class_of(pool), named=False)
    return by_header(CLASS_HEADER, named, routes([bad_class, bad_deadline, *default]))


def _forward(view: FleetView, call: Call, pool: Pool, scope: Scope, class_: Class | None) -> Json:
    """`class_`: None where requests have none."""
    class_ = class_ or DEFAULT_CLASS
    action: Json = {
        **_cluster(view, call, pool, scope, class_),
        "retry_policy": _retries(call, class_) if scope == "fleet" else _reconnects(),
        **_timeouts(view, call),
        **(canary.copies(view, pool, call.speaks) if scope == "fleet" and not call.is_stream else {}),
    }
    is_said = call.names_class or class_ == DEFAULT_CLASS
    return {
        "name": pool.name,
        "match": call.match,
        "metadata": {
            "filter_metadata": {
                "headend": {"pool": pool.name, "class": class_, "retry_after_s": RETRY_AFTER_S[class_]}
            }
        },
        "stat_prefix": f"{pool.key}.questions" if call.is_question else away_cluster(pool, class_),
        "route": action,
        # The first message must be whole before the name in it can be read.
        "request_body_buffer_limit": body_limit(view) + (1 << 20) if call.is_unnamed else REPLAY_BYTES,
        "typed_per_filter_config": _filters(call),
        # So that other sites, and the models that an app calls, know the class too.
        **({} if is_said else {"request_headers_to_add": [set_header(CLASS_HEADER, class_)]}),
    }


def _cluster(view: FleetView, call: Call, pool: Pool, scope: Scope, class_: Class) -> Json:
    """Where to: a cluster, or what chooses one."""
    if scope == "fleet" and view.local not in view.sites_of(pool):
        return {"cluster": away_cluster(pool, class_)}
    if scope == "local" and call.is_question and pool.kind == "model":
        # Other sites ask every second whether it is ready: that must not count as a request in its room.
        return {"cluster": local_cluster(SERVER, call.speaks)}
    name = (home_cluster if scope == "fleet" else local_cluster)(pool, call.speaks)
    return {
        "cluster_specifier_plugin"
        if admission.guards(view, pool) and not call.is_question
        else "cluster": name
    }


def _timeouts(view: FleetView, call: Call) -> Json:
    """For gRPC Envoy ignores `timeout` beside `max_stream_duration`: the listeners' idle timeout is it."""
    limit = f"{view.limits.timeout_s}s"
    if call.is_stream:
        longest = {"max_stream_duration": STREAM_MAX_AGE, "grpc_timeout_header_max": STREAM_MAX_AGE}
        return {"timeout": "0s", "idle_timeout": limit, "max_stream_duration": longest}
    # A deadline that the request brings counts where it is shorter; `listeners` make it Envoy's timeout.
    whole = f"{view.limits.timeout_s + UPLOAD_S}s"
    longest = {"max_stream_duration": whole, "grpc_timeout_header_max": whole}
    return {"timeout": limit, "max_stream_duration": longest}


def _filters(call: Call) -> Json:
    """Filters that differ from the listener's for this call."""
    look_inside = NAME_OF_STREAM if call.is_stream else NAME_OF_CALL
    return {
        # A stream's body is all its messages, however many.
        **({"envoy.filters.http.body_size_limit": per_route(enabled=False)} if call.is_stream else {}),
        **({name: per_route(enabled=True) for name in look_inside} if call.is_unnamed else {}),
    }


def _retries(call: Call, class_: Class) -> Json:
    """Ask another site when this one has surely not answered: it is gone, or has refused.

    A request that timed out is not asked again: it may still hold a GPU.
    """
    refusals = [has(REFUSED_HEADER), *([_NO_SUCH_MODEL] if call.is_sealed else [])]
    return {
        "retry_on": f"{_LOST},retriable-status-codes,retriable-headers,unavailable,resource-exhausted",
        "retriable_status_codes": [503],
        "retriable_headers": refusals,
        "num_retries": ATTEMPTS[class_] - 1,
        "retry_host_predicate": [
            extension(
                "envoy.retry_host_predicates.previous_hosts",
                f"{_RETRY}.host.previous_hosts.v3.PreviousHostsPredicate",
            )
        ],
        # Sites are drawn by share: one that was asked may have nearly all of it.
        "host_selection_retry_max_attempts": 50,
        "retry_priority": extension(
            "envoy.retry_priorities.previous_priorities",
            f"{_RETRY}.priority.previous_priorities.v3.PreviousPrioritiesConfig",
            update_frequency=1,
        ),
        "retry_back_off": _BACK_OFF,
    }


def _reconnects() -> Json:
    """One more try at the only host: a kept-alive connection may close just as a request goes out on it."""
    return {"retry_on": _LOST, "num_retries": 1, "retry_back_off": _BACK_OFF}


def body_limit(view: FleetView) -> int:
    """Largest request body, bytes; Envoy counts it in 32 bits."""
    return min(view.limits.body_mib << 20, (1 << 32) - (2 << 20))
