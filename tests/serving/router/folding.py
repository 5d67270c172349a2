"""Snapshots of many fleets that stay readable: what is said more than once is said in one place.

A part of a resource (a retry policy, the shape of error answers, a script) that occurs several times over
all fleets becomes a *block* with a name, and resources refer to it: `retry_policy: <retry_policy>`. A change
of what all routes have is then a diff of a few lines, and files stay small, though nothing is left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

BLOCKS = "blocks"
_WORTH = 100
"""Characters of JSON from which a repeated part is made a block."""
_IN_SIGHT = {
    *("virtual_hosts", "routes", "match", "route", "endpoints", "lb_endpoints", "load_assignment"),
    *("endpoint", "eds_cluster_config", "filter_chains", "filters", "typed_config", "@type"),
}
"""What stands under these keys makes the difference between resources, and is written out."""


def fold(scenarios: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The scenarios with references in the place of repeated parts, and `BLOCKS`, which has those parts.

    A scenario is its resources by name; they themselves are always written out.
    """
    times = Counter(
        key
        for resources in scenarios.values()
        for name, resource in resources.items()
        for key in _parts(name, resource)
    )
    folding = _Folding(times)
    folded = {
        scenario: {name: folding.inside(name, resource, 1) for name, resource in resources.items()}
        for scenario, resources in scenarios.items()
    }
    return {BLOCKS: folding.blocks, **folded}


def unfold(value: Any, blocks: Mapping[str, Any]) -> Any:
    """What `fold` was given, from one of its results."""
    match value:
        case str() if value[:1] == "<" and value[1:-1] in blocks:
            return unfold(blocks[value[1:-1]], blocks)
        case dict():
            return {key: unfold(each, blocks) for key, each in value.items()}
        case list():
            return [unfold(each, blocks) for each in value]
    return value


def as_yaml(value: Any) -> str:
    """Text of which every line says something; equal text for equal values."""
    return yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, width=140, default_flow_style=None, allow_unicode=True
    )


class _Folding:
    def __init__(self, times: Counter[str]) -> None:
        self.blocks: dict[str, Any] = {}
        self._times = times
        self._names: dict[str, str] = {}
        self._of_key = Counter[str]()

    def fold(self, name: str, value: Any, outer: int) -> Any:
        """`value`, which stands under the key `name` in what occurs `outer` times, with references.

        What occurs as often as that is not a block of its own.
        """
        if name in _IN_SIGHT or self._times[key := _key(value)] <= outer:
            return self.inside(name, value, outer)
        if key not in self._names:
            self._names[key] = self._new_name(name)
            # In the order in which they are first met, outer ones before what is in them.
            self.blocks[self._names[key]] = None
            self.blocks[self._names[key]] = self.inside(name, value, self._times[key])
        return f"<{self._names[key]}>"

    def inside(self, name: str, value: Any, outer: int) -> Any:
        """`value` itself, with references in it."""
        match value:
            case dict():
                return {key: self.fold(key, each, outer) for key, each in value.items()}
            case list():
                return [self.fold(name, each, outer) for each in value]
        return value

    def _new_name(self, name: str) -> str:
        """The key it was found under; from the second part of that key on with a number."""
        self._of_key[name] += 1
        return name if self._of_key[name] == 1 else f"{name} {self._of_key[name]}"


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _parts(name: str, value: Any) -> Iterator[str]:
    """Every part that is large enough to be a block; those of a repeated part count as often as it does."""
    if name not in _IN_SIGHT and len(key := _key(value)) >= _WORTH:
        yield key
    match value:
        case dict():
            for name, each in value.items():
                yield from _parts(name, each)
        case list():
            for each in value:
                yield from _parts(name, each)


class _Dumper(yaml.SafeDumper):
    """Writes equal objects out, and scripts as the lines they are."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.Node:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _Dumper.represent_text)
