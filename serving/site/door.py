"""A site's front door: what it knows of fleet and site, its files, and the part that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version

from models.bundle import Bundle
from models.card import Card
from models.files import canonical_json, digest
from serving.fleet import PATIENCE, Fleet, Site
from serving.identity import KeyStore, SiteIdentity
from serving.router import envoy, transition
from serving.router.agent import kept
from serving.router.view import FleetView, LocalPorts, Pool, Room
from serving.site.spec import PartSpec, SiteDirectory
from serving.triton.instances import copies

_LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}


def view_of(
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


def write(view: FleetView, directory: SiteDirectory, *, in_use: bool = False) -> None:
    """Write the files of a front door that knows `view`; `in_use`: see `envoy.write_config`."""
    keys = KeyStore(view.fleet).read()
    envoy.write_config(replace(view, keys=keys), directory.path / "envoy", in_use=in_use)


def part(fleet: Fleet, directory: SiteDirectory, view: FleetView) -> PartSpec:
    """The Envoy of a site whose files are written."""
    door = _url(fleet.sites[directory.site])
    ports = {
        "admin": view.ports.admin,
        **({"inside": view.ports.inside} if view.ports.inside else {}),
        "front-door": view.local.front_door.port,
        "peer": view.local.peer.port,
    }
    return PartSpec(
        name="envoy",
        argv=envoy.command(directory.path / "envoy"),
        ports=ports,
        ready=probe(fleet, directory.site, closed=view.transition.closed),
        alive=f"{door}/healthz",
        fingerprint=fingerprint(fleet, directory, view.ports.admin),
    )


def fingerprint(fleet: Fleet, directory: SiteDirectory, admin: int) -> str:
    """Of what an Envoy reads only when it starts."""
    once = envoy.bootstrap(fleet.fleet, directory.site, admin, directory.path / "envoy")
    return digest(canonical_json([version("headend"), once]))


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


def probe(fleet: Fleet, site: str, *, closed: bool) -> str:
    """URL that says whether the front door is as it should be; one that is closed only has to live."""
    door = _url(fleet.sites[site])
    return f"{door}/healthz" if closed else f"{door}/readyz"


def _url(site: Site) -> str:
    return f"{'https' if site.tls else 'http'}://{_reachable(site.front_door)}"


def _reachable(address: str) -> str:
    """Where this machine reaches a server that listens on `address`."""
    host, _, port = address.rpartition(":")
    return f"{_LOOPBACK_OF.get(host, host)}:{port}"
