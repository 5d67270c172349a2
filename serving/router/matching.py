"""Envoy's matcher trees: which routes a request is tried on is looked up, not found by walking all of them.

A tree leads by the path, and by headers from there, to a few routes, which are tried in turn; how many models
and apps there are does not matter. What leads nowhere is answered by the tree's `otherwise`. Source: Envoy's
`VirtualHost.matcher`, and `xds.type.matcher.v3.Matcher`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serving.router.xds import Json, extension


def routes(found: Sequence[Json]) -> Json:
    """Where a tree ends: routes, of which the first that matches is taken."""
    return {"action": extension("routes", "envoy.config.route.v3.RouteList", routes=list(found))}


def by_path_prefix(branches: Mapping[str, Json], otherwise: Json) -> Json:
    """Leads by the longest of the prefixes that the path (with its query) begins with."""
    # Envoy wants one prefix at least.
    return _tree(":path", {"prefix_match_map": {"map": {"/": otherwise, **branches}}}, otherwise)


def by_header(name: str, branches: Mapping[str, Json], otherwise: Json) -> Json:
    """Leads by a header's value; a request without the header, or with another value, goes `otherwise`."""
    return _tree(name, {"exact_match_map": {"map": dict(branches)}}, otherwise) if branches else otherwise


def by_path(branches: Mapping[str, Json], otherwise: Json) -> Json:
    """Leads by the first of the patterns (RE2) that the path fits, without its query."""
    matchers = [
        {
            "predicate": {
                "single_predicate": {
                    "input": _header(":path"),
                    "value_match": {"safe_regex": {"google_re2": {}, "regex": rf"({pattern})([?].*)?"}},
                }
            },
            "on_match": then,
        }
        for pattern, then in branches.items()
    ]
    return {"matcher": {"matcher_list": {"matchers": matchers}, "on_no_match": otherwise}}


def _tree(header: str, branches: Json, otherwise: Json) -> Json:
    return {"matcher": {"matcher_tree": {"input": _header(header), **branches}, "on_no_match": otherwise}}


def _header(name: str) -> Json:
    return extension("header", "envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name=name)
