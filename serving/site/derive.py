"""From the fleet and its bundles to what one site runs: files under the site's directory, and the
supervisor's spec.

Files stay where they are and are replaced one by one, each at once. Triton swaps changed models and the front
door takes up its new configuration while they run; the apps and the agent are restarted when theirs changes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING
from uuid import uuid4

from models.bundle import Bundle
from models.files import canonical_json, digest
from serving.fleet import Access, Fleet
from serving.identity import Authority, SiteIdentity
from serving.site import door, door_certificate, parts
from serving.site.rollout import extra
from serving.site.spec import SiteDirectory, SiteSpec

if TYPE_CHECKING:
    from serving.triton.repository import Changes

REPOSITORY, APPS, FRONT_DOOR, AGENT = (
    "Triton's model repository",
    "apps' configuration",
    "front door's configuration",
    "agent's configuration",
)
PART_OF = {REPOSITORY: "triton", APPS: "serve", FRONT_DOOR: "envoy", AGENT: "agent"}
TAKEN_UP_WHILE_RUNNING = (REPOSITORY, FRONT_DOOR)
"""Files whose part needs no restart to take them up."""


def ports_of(fleet: Fleet, site: str) -> list[str]:
    """The inner ports that the site needs, as `<part>-<purpose>`."""
    purposes = ["triton-http", "triton-grpc", "triton-metrics"] if fleet.models_at(site) else []
    apps = fleet.apps_at(site)
    purposes += ["serve-status", *(f"serve-{app}" for app in apps)] if apps else []
    # Its apps show no key and trust no certificate, so where callers must they have a door of their own.
    inside = ["envoy-inside"] if isinstance(fleet.access, Access) or fleet.sites[site].tls else []
    return [*purposes, "envoy-admin", *inside, "agent-http"]


def digests(fleet: Fleet, site: str, bundles: Mapping[str, str], ports: Mapping[str, int]) -> dict[str, str]:
    """What the site's files derive from, as one digest for each kind. `bundles`: model to bundle digest."""
    declared = fleet.model_dump(mode="json")
    common = [version("headend"), dict(ports)]
    front_door = [
        declared,
        # Cards say how much a model takes, and with the cores how many copies there are.
        {name: bundles.get(name) for name in fleet.models_at(site)},
        os.cpu_count(),
        has_identity(fleet, site),
    ]
    everything = {
        REPOSITORY: [
            {name: [bundles.get(name), fleet.models[name].at_servers()] for name in fleet.models_at(site)},
            [declared["sites"][site][setting] for setting in ("threads", "gpus")],
            os.cpu_count(),
        ],
        APPS: [
            {name: fleet.apps[name].at_servers() for name in fleet.apps_at(site)},
            # All of them: an app may read files of any bundle (the recogniser's labels).
            [declared["store"], sorted(declared["models"]), sorted(bundles.items())],
            declared["limits"],
            declared["tracing"],
            declared["sites"][site]["front_door"],
        ],
        FRONT_DOOR: front_door,
        AGENT: front_door,
    }
    needed = {
        REPOSITORY: bool(fleet.models_at(site)),
        APPS: bool(fleet.apps_at(site)),
        FRONT_DOOR: True,
        AGENT: True,
    }
    return {
        kind: digest(canonical_json([*common, *inputs]))[:12]
        for kind, inputs in everything.items()
        if needed[kind]
    }


def has_identity(fleet: Fleet, site: str) -> bool:
    """Whether the site shows a certificate to others: it has one, or gets one when its files are derived."""
    return Authority.exists(fleet.fleet) or SiteIdentity.of(fleet.fleet, site).exists


def fingerprints(fleet: Fleet, directory: SiteDirectory, ports: Mapping[str, int]) -> dict[str, str]:
    """By part: of what it reads only when it starts, where that is less than all that is derived for it."""
    return {
        "triton": parts.triton_fingerprint(fleet, directory.site, ports),
        "envoy": door.fingerprint(fleet, directory, ports["envoy-admin"]),
    }


def derive(
    fleet: Fleet,
    directory: SiteDirectory,
    bundles: Mapping[str, Bundle],
    ports: Mapping[str, int],
    *,
    in_use: bool,
) -> tuple[SiteSpec, Changes]:
    """Write the site's files; returns what its supervisor is to run, and which models Triton has to swap.

    `in_use`: the site runs on those that lie there.
    """
    # Here, because it brings gRPC along: half a second that other commands need not wait.
    from serving.triton.repository import Changes, write_repository

    name = directory.site
    if Authority.exists(fleet.fleet):
        Authority(fleet.fleet).renew(name)
    if shown := fleet.sites[name].tls:
        door_certificate.check(name, shown)
    derived = digests(fleet, name, {model: bundle.digest for model, bundle in bundles.items()}, ports)
    found, changes = [], Changes()
    if REPOSITORY in derived:
        repository = directory.path / "triton" / "models"
        changes = write_repository(fleet, name, bundles, repository, flavour="embedded")
        found.append(parts.triton(fleet, directory, repository, ports))
    if APPS in derived:
        found.append(parts.serve(fleet, directory, ports, derived[APPS]))
    view = door.view_of(fleet, directory, bundles, ports)
    # The agent's before Envoy's: one that starts meanwhile would write what it was told before.
    agent = parts.agent(fleet, directory, view, bundles, ports, derived[AGENT])
    door.write(view, directory, in_use=in_use)
    found += [door.part(fleet, directory, view), agent, *extra.read(directory)]
    spec = SiteSpec(
        fleet=fleet.fleet,
        site=name,
        front_door=fleet.sites[name].front_door,
        parts=found,
        revision=uuid4().hex,
        derived=derived,
    )
    return spec, changes
