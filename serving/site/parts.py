"""The parts of a site beside its front door: what each is started with."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from models.bundle import Bundle
from models.files import canonical_json, digest, write_atomic
from serving.apps.config import AppsConfig
from serving.fleet import AppName, Fleet
from serving.router.agent.config import AgentConfig
from serving.router.view import FleetView
from serving.site import facts
from serving.site.spec import PartSpec, SiteDirectory


def triton(
    fleet: Fleet, directory: SiteDirectory, repository: Path, ports: Mapping[str, int], name: str = "triton"
) -> PartSpec:
    """A Triton that serves the site's models from `repository`, as the part `name`."""
    from serving.triton import server

    own, gpus = _of_part(ports, name), fleet.sites[directory.site].gpus
    models, runtime = fleet.models_at(directory.site), directory.path / name / "runtime"
    argv, env = server.command(
        repository,
        own["http"],
        own["grpc"],
        own["metrics"],
        models,
        runtime,
        gpus=gpus,
        tracing=fleet.tracing,
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
        fingerprint=triton_fingerprint(fleet, directory.site, ports, name),
        shm_prefix=server.shared_memory_prefix(runtime),
    )


def triton_fingerprint(fleet: Fleet, site: str, ports: Mapping[str, int], name: str = "triton") -> str:
    """Of what a Triton reads only when it starts."""
    own, gpus, tracing = _of_part(ports, name), fleet.sites[site].gpus, fleet.tracing
    return digest(canonical_json([version("headend"), own, gpus, tracing and tracing.url]))


def serve(fleet: Fleet, directory: SiteDirectory, ports: Mapping[str, int], fingerprint: str) -> PartSpec:
    """The apps' server, whose configuration is written."""
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


def agent(
    fleet: Fleet,
    directory: SiteDirectory,
    view: FleetView,
    bundles: Mapping[str, Bundle],
    ports: Mapping[str, int],
    fingerprint: str,
) -> PartSpec:
    """The site's agent, whose configuration is written."""
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
        # The plan's matrices are small: more threads would only wait for each other, with all cores busy.
        env={"OPENBLAS_NUM_THREADS": "1"},
        ports=_of_part(ports, "agent"),
        ready=f"{own}/ready",
        alive=f"{own}/alive",
        grace_s=5,
        fingerprint=fingerprint,
    )


def _added(env: Mapping[str, str]) -> dict[str, str]:
    """What of a whole environment this process does not have: the rest is inherited, and may be secret."""
    return {key: value for key, value in env.items() if os.environ.get(key) != value}


def _of_part(ports: Mapping[str, int], part: str) -> dict[str, int]:
    return {
        name.removeprefix(f"{part}-"): port for name, port in ports.items() if name.startswith(f"{part}-")
    }
