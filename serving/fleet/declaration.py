"""`fleet.yaml`: all a person writes to run a fleet; the rest is derived from it and from the cards."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from models.card import Name, Precision
from models.errors import DeclarationError
from models.schema import Declaration, Strict
from serving.capacity import CapacityRecord
from serving.fleet.access import Access
from serving.fleet.balancing import Balancing, Economy, Tag, Uplink
from serving.fleet.classes import Classed
from serving.fleet.rollout import Rollout
from serving.fleet.tracing import Tracing


def _real_port(address: str) -> str:
    if not 1 <= int(address.rpartition(":")[2]) <= 65_535:
        raise ValueError(f"the port of {address} is not between 1 and 65535")
    return address


HostPort = Annotated[
    str,
    StringConstraints(pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}$"),
    AfterValidator(_real_port),
]
AppName = Literal["subtitles", "review"]
ALIASES: dict[str, AppName] = {"whisper-1": "subtitles", "omni-moderation-latest": "review"}
"""OpenAI's own names for what an app does, so that existing code runs."""


class ModelUse(Classed):
    """How the fleet serves one model."""

    precision: Precision = "fp32"
    """int8 is usually fastest on a CPU; the bundle must contain it."""
    instances: int | None = Field(default=None, ge=1, le=64)
    """Copies in memory per site (per GPU where there are GPUs); by default one per GPU, and on CPUs as many
    as keep the site's threads busy: see `serving.triton.instances`."""
    admission: Literal["front-door", "triton"] = "front-door"
    """Who refuses what the model cannot take: the front door's limits, or Triton's own queue policies
    (classes, `max_queue` and `queue_timeout_ms` of the card). Triton's cost: a request that arrives while
    every copy is busy may wait up to half a second longer, as its batcher is not woken (seen in 2.51)."""
    balancing: Balancing = Balancing()


class AppUse(Classed):
    """How the fleet runs one app."""

    replicas: int = Field(default=1, ge=1, le=64)
    concurrency: int = Field(default=8, ge=1)
    """Requests one replica works on at a time."""
    queue: int = Field(default=32, ge=0)
    """Requests that may wait beyond that before the site refuses and another is asked."""
    policy: Path | None = None
    """Review only: a policy file instead of the packaged one, relative to the fleet file; re-read when it
    changes."""
    balancing: Balancing = Balancing()


class Limits(Strict):
    """What a front door accepts."""

    body_mib: int = Field(default=256, ge=1, le=4096)
    """Largest request body, MiB."""
    timeout_s: float = Field(default=600, gt=0)
    """Longest an answer may take once the request has arrived, seconds."""
    concurrency: int = Field(default=256, ge=1)
    """Requests in flight per pool through one front door; beyond it they are refused."""


class Certificate(Strict):
    """What a front door shows to its clients: PEM files on the site's machine, relative to the fleet file.

    They are read again when a file is moved into their place: the key first, then the certificate.
    """

    certificate: Path
    """With what leads from it to an authority that clients trust."""
    key: Path
    """Its private key, without a passphrase."""


class Site(Strict):
    """One place that serves."""

    kind: Literal["local"] = "local"
    """`local`: processes on this machine."""
    front_door: HostPort
    """The one address that clients use: HTTP/1.1, HTTP/2 and gRPC on one port."""
    tls: Certificate | None = None
    """What the front door shows, so that it takes TLS alone; by default requests come in the clear."""
    peer: HostPort | None = None
    """Where other sites' front doors knock; by default the front door's port plus one."""
    models: list[Name] | None = None
    """Models served here; by default all of the fleet's."""
    apps: list[AppName] | None = None
    """Apps run here; by default all of the fleet's."""
    threads: int = Field(default=0, ge=0)
    """CPU threads for a model's inference; 0: as many as the machine has cores."""
    gpus: list[Annotated[int, Field(ge=0)]] = []
    """Numbers of the GPUs that models run on; none: they run on the CPU."""
    relay: bool = False
    """Its agent passes on what it knows of all sites, so that one which can dial out, but cannot be reached,
    is known to those that ask here."""
    capacity: Path | None = None
    """What the site holds: a record that `headend loadtest capacity` wrote, relative to the fleet file."""
    tags: list[Tag] = []
    """What is true of this site; a pool's `residency` asks for them."""
    uplink: Uplink | None = None
    """The site's way to the others, where it is thin or costs money; by default neither."""

    @property
    def url(self) -> str:
        """Of the front door, without a path."""
        return f"{'https' if self.tls else 'http'}://{self.front_door}"

    @property
    def peer_address(self) -> str:
        """`host:port` for other sites."""
        if self.peer:
            return self.peer
        host, _, port = self.front_door.rpartition(":")
        return f"{host}:{int(port) + 1}"

    @model_validator(mode="after")
    def _room_for_the_peer(self) -> Self:
        if not self.peer and self.front_door.endswith(":65535"):
            raise ValueError("65535 leaves no next port for `peer`: give one")
        return self


def _placed(site: Site, directory: Path) -> Site:
    """With absolute paths."""
    found: dict[str, object] = {}
    if site.capacity:
        found["capacity"] = (directory / site.capacity).absolute()
    if site.tls:
        files = {"certificate": site.tls.certificate, "key": site.tls.key}
        placed = {name: (directory / file).absolute() for name, file in files.items()}
        found["tls"] = site.tls.model_copy(update=placed)
    return site.model_copy(update=found)


class Fleet(Declaration):
    """All sites, and what they serve."""

    fleet: Name
    """The fleet's name."""
    store: str | None = None
    """Where bundles are: a directory or any URL fsspec knows; by default `$HEADEND_HOME/store`."""
    models: dict[Name, ModelUse]
    apps: dict[AppName, AppUse] = {}
    limits: Limits = Limits()
    access: Access | Literal["open"] | None = None
    """Who may call. By default a front door that only its own machine can reach takes everybody, and any
    other is refused; `open` lets everybody in everywhere."""
    rollout: Rollout = Rollout()
    tracing: Tracing | None = None
    economy: Economy = Economy()
    sites: dict[Name, Site] = Field(min_length=1)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a fleet file; paths in it are relative to its directory.

        Raises `DeclarationError` when it, or a capacity record that it names, is not valid.
        """
        fleet = super().load(path)
        apps = {
            name: app.model_copy(update={"policy": (path.parent / app.policy).absolute()})
            if app.policy
            else app
            for name, app in fleet.apps.items()
        }
        sites = {name: _placed(site, path.parent) for name, site in fleet.sites.items()}
        access = fleet.access.placed(path.parent) if isinstance(fleet.access, Access) else fleet.access
        fleet = fleet.model_copy(update={"apps": apps, "sites": sites, "access": access})
        for name in sites:
            fleet.capacity_at(name)
        return fleet

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        taken: dict[str, str] = {}
        for name, site in self.sites.items():
            for address in (site.front_door, site.peer_address):
                if address in taken:
                    raise ValueError(f"sites `{taken[address]}` and `{name}` both listen on {address}")
                taken[address] = name
            if unknown := set(site.models or ()) - set(self.models):
                raise ValueError(
                    f"site `{name}` lists models the fleet does not have: {', '.join(sorted(unknown))}"
                )
            if missing := set(site.apps or ()) - set(self.apps):
                raise ValueError(
                    f"site `{name}` lists apps the fleet does not have: {', '.join(sorted(missing))}"
                )
        return self

    def models_at(self, site: str) -> list[str]:
        """Names of the models served at `site`, sorted."""
        chosen = self.sites[site].models
        return sorted(self.models if chosen is None else chosen)

    def apps_at(self, site: str) -> list[AppName]:
        """Names of the apps run at `site`, sorted."""
        chosen = self.sites[site].apps
        return sorted(self.apps if chosen is None else chosen)

    def capacity_at(self, site: str) -> CapacityRecord | None:
        """What `site` holds, read from its record; None: it names none.

        Raises `DeclarationError` when the record is missing, not valid, or another site's.
        """
        path = self.sites[site].capacity
        if path is None:
            return None
        record = CapacityRecord.load(path)
        if record.site != site:
            raise DeclarationError(
                f"site `{site}` names the capacity record {path}, which is of site `{record.site}`",
                hint=f"Measure it: headend loadtest capacity CAMPAIGN --site {site}",
            )
        return record


def demo_fleet() -> Fleet:
    """The packaged two-site fleet."""
    text = resources.files("serving").joinpath("fleets/demo.yaml").read_text("utf-8")
    return Fleet.parse(text, where="the packaged demo fleet")
