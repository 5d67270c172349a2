"""From the fleet and its bundles to what one site runs: files under the site's directory, and the
supervisor's spec.

Files stay where they are and are replaced one by one, each at once. Triton swaps changed models and the front
door takes up its new configuration while they run; only the apps are restarted when theirs changes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from models.bundle import Bundle
from models.card import Card
from models.files import canonical_json, digest, write_atomic
from serving.apps.config import AppsConfig
from serving.fleet import PATIENCE, Access, AppName, Fleet
from serving.identity import Authority, KeyStore, SiteIdentity
from serving.router import envoy, transition
from serving.router.agent import kept
from serving.router.agent.config import AgentConfig
from serving.router.view import FleetView, LocalPorts, Pool, Room
from serving.site import facts
from serving.site.rollout import extra
from serving.site.spec import PartSpec, SiteDirectory, SiteSpec
from serving.triton.instances import copies

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

_LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


def ports_of(fleet: Fleet, site: str) -> list[str]:
    """The inner ports that the site needs, as `<part>-<purpose>`."""
    purposes = ["triton-http", "triton-grpc", "triton-metrics"] if fleet.models_at(site) else []
    apps = fleet.apps_at(site)
    purposes += ["serve-status", *(f"serve-{app}" for app in apps)] if apps else []
    # Its apps show no key, so where callers need one they have a door of their own.
    inside = ["envoy-inside"] if isinstance(fleet.access, Access) else []
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
            {name: [bundles.get(name), declared["models"][name]] for name in fleet.models_at(site)},
            [declared["sites"][site][setting] for setting in ("threads", "gpus")],
            os.cpu_count(),
        ],
        APPS: [
            {name: declared["apps"][name] for name in fleet.apps_at(site)},
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


def derive(
    fleet: Fleet, directory: SiteDirectory, bundles: Mapping[str, Bundle], ports: Mapping[str, int]
) -> tuple[SiteSpec, Changes]:
    """Write the site's files; returns what its supervisor is to run, and which models Triton has to swap."""
    # Here, because it brings gRPC along: half a second that other commands need not wait.
    from serving.triton.repository import Changes, write_repository

    name = directory.site
    site = fleet.sites[name]
    if Authority.exists(fleet.fleet):
        Authority(fleet.fleet).renew(name)
    derived = digests(fleet, name, {model: bundle.digest for model, bundle in bundles.items()}, ports)
    parts, changes = [], Changes()
    if REPOSITORY in derived:
        repository = directory.path / "triton" / "models"
        changes = write_repository(fleet, name, bundles, repository, flavour="embedded")
        parts.append(triton_part(fleet, directory, repository, ports))
    if APPS in derived:
        parts.append(_serve(fleet, directory, ports, derived[APPS]))
    view = front_door(fleet, directory, bundles, ports)
    # The agent's before Envoy's: one that starts meanwhile would write what it was told before.
    agent = _agent(fleet, directory, view, bundles, ports, derived[AGENT])
    parts += [_envoy(fleet, directory, view, ports), agent, *extra.read(directory)]
    spec = SiteSpec(
        fleet=fleet.fleet,
        site=name,
        front_door=site.front_door,
        parts=parts,
        revision=uuid4().hex,
        derived=derived,
    )
    return spec, changes


def triton_part(
    fleet: Fleet, directory: SiteDirectory, repository: Path, ports: Mapping[str, int], name: str = "triton"
) -> PartSpec:
    """A Triton that serves the site's models from `repository`, as the part `name`."""
    from serving.triton import server

    own, gpus = _of_part(ports, name), fleet.sites[directory.site].gpus
    tracing = fleet.tracing
    models, runtime = fleet.models_at(directory.site), directory.path / name / "runtime"
    argv, env = server.command(
        repository, own["http"], own["grpc"], own["metrics"], models, runtime, gpus=gpus, tracing=tracing
    )
    url = f"http://127.0.0.1:{own['http']}/v2/health"
    return PartSpec(
        name=name,
        argv=argv,
        env=_added(env),
        ports=own,
        ready=f"{url}/ready",
        alive=f"{url}/live",
        grace_s=server.EXIT_TIMEOUT_S + 5,
        fingerprint=digest(canonical_json([version("headend"), own, gpus, tracing and tracing.url])),
        shm_prefix=server.shared_memory_prefix(runtime),
    )


def _serve(fleet: Fleet, directory: SiteDirectory, ports: Mapping[str, int], fingerprint: str) -> PartSpec:
    app_ports: dict[AppName, int] = {app: ports[f"serve-{app}"] for app in fleet.apps_at(directory.site)}
    config = AppsConfig.of(
        fleet,
        directory.site,
        run_dir=directory.path / "serve" / "run",
        port=ports["serve-status"],
        app_ports=app_ports,
        **({"front_door": f"127.0.0.1:{ports['envoy-inside']}"} if "envoy-inside" in ports else {}),
    )
    path = directory.path / "serve" / "config.json"
    write_atomic(path, config.model_dump_json(indent=1).encode(), mode=0o600)
    own = f"http://127.0.0.1:{config.port}"
    return PartSpec(
        name="serve",
        argv=[sys.executable, "-m", "serving.apps.server", "--config", str(path)],
        ports=_of_part(ports, "serve"),
        ready=f"{own}/-/ready",
        alive=f"{own}/-/alive",
        start_limit_s=600,
        grace_s=30,
        fingerprint=fingerprint,
    )


def rooms_of(fleet: Fleet, site: str, cards: Mapping[str, Card]) -> dict[str, Room]:
    """What is worked on at a time, and what may wait: of models that the front door guards, and of apps."""
    models = {
        Pool("model", name).key: Room(
            at_once=copies(fleet, site, card) * max(1, card.serving.max_batch_size),
            queue=card.serving.max_queue,
            # Models answer in the order of arrival: what waits, waits before the next live request too.
            patience_ms=card.serving.queue_timeout_ms * PATIENCE["live"],
        )
        for name in fleet.models_at(site)
        if fleet.models[name].admission == "front-door" and (card := cards[name])
    }
    uses = {name: fleet.apps[name] for name in fleet.apps_at(site)}
    apps = {
        Pool("app", name).key: Room(at_once=use.replicas * use.concurrency, queue=use.queue)
        for name, use in uses.items()
    }
    return {**models, **apps}


def front_door(
    fleet: Fleet, directory: SiteDirectory, bundles: Mapping[str, Bundle], ports: Mapping[str, int]
) -> FleetView:
    """What the site's front door knows, with what is under way there.

    The plan it had before is included: a change of the fleet is no reason for a swing.
    """
    local = LocalPorts(
        triton_http=ports.get("triton-http", 0),
        triton_grpc=ports.get("triton-grpc", 0),
        apps={app: ports[f"serve-{app}"] for app in fleet.apps_at(directory.site)},
        admin=ports["envoy-admin"],
        agent=ports["agent-http"],
        inside=ports.get("envoy-inside", 0),
    )
    cards = {name: bundle.card for name, bundle in bundles.items()}
    view = FleetView.of(fleet, directory.site, local, rooms_of(fleet, directory.site, cards))
    if (identity := SiteIdentity.of(fleet.fleet, directory.site)).exists:
        view = replace(view, identity=str(identity.path))
    return replace(view, plan=kept.read(directory.path), transition=transition.read(directory.path))


def _envoy(fleet: Fleet, directory: SiteDirectory, view: FleetView, ports: Mapping[str, int]) -> PartSpec:
    out = directory.path / "envoy"
    envoy.write_config(replace(view, keys=KeyStore(fleet.fleet).read()), out)
    door = f"http://{_reachable(fleet.sites[directory.site].front_door)}"
    return PartSpec(
        name="envoy",
        argv=envoy.command(out),
        ports={
            **_of_part(ports, "envoy"),
            "front-door": view.local.front_door.port,
            "peer": view.local.peer.port,
        },
        ready=door_probe(fleet, directory.site, closed=view.transition.closed),
        alive=f"{door}/healthz",
        fingerprint=digest(canonical_json([version("headend"), envoy.bootstrap(view, out)])),
    )


def _agent(
    fleet: Fleet,
    directory: SiteDirectory,
    view: FleetView,
    bundles: Mapping[str, Bundle],
    ports: Mapping[str, int],
    fingerprint: str,
) -> PartSpec:
    config = AgentConfig(
        fleet=fleet,
        view=view,
        triton_metrics=ports.get("triton-metrics", 0),
        facts=facts.of_site(fleet, view, bundles),
        directory=directory.path,
    )
    path = directory.path / "agent" / "config.json"
    write_atomic(path, config.model_dump_json(indent=1).encode(), mode=0o600)
    own = f"http://127.0.0.1:{view.ports.agent}/-"
    return PartSpec(
        name="agent",
        argv=[sys.executable, "-m", "serving.router.agent", str(path)],
        ports=_of_part(ports, "agent"),
        ready=f"{own}/ready",
        alive=f"{own}/alive",
        grace_s=5,
        fingerprint=fingerprint,
    )


def door_probe(fleet: Fleet, site: str, *, closed: bool) -> str:
    """URL that says whether the front door is as it should be; one that is closed only has to live."""
    door = f"http://{_reachable(fleet.sites[site].front_door)}"
    return f"{door}/healthz" if closed else f"{door}/readyz"


def _reachable(address: str) -> str:
    """Where this machine reaches a server that listens on `address`."""
    host, _, port = address.rpartition(":")
    return f"{_LOOPBACK_OF.get(host, host)}:{port}"


def _added(env: Mapping[str, str]) -> dict[str, str]:
    """What of a whole environment this process does not have: the rest is inherited, and may be secret."""
    return {key: value for key, value in env.items() if os.environ.get(key) != value}


def _of_part(ports: Mapping[str, int], part: str) -> dict[str, int]:
    return {
        name.removeprefix(f"{part}-"): port for name, port in ports.items() if name.startswith(f"{part}-")
    }
