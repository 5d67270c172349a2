"""The fleet a benchmark runs against: one site on free ports, started and ended through the command."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from models.errors import HeadendError
from serving.fleet import Fleet, demo_fleet
from serving.site import ports

HEADEND = Path(sys.executable).with_name("headend")


@dataclass(frozen=True)
class BenchSite:
    """A running site: addresses as `host:port`, and the pids at the roots of its process trees."""

    front_door: str
    triton_http: str
    triton_grpc: str
    pids: tuple[int, ...]
    status: dict[str, Any]
    """`headend status --json`, as it was when all was ready."""


def headend(*arguments: str) -> str:
    """Run the command, return what it wrote. Raises `HeadendError` with its own words when it fails."""
    done = subprocess.run([HEADEND, *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise HeadendError(f"headend {' '.join(arguments)} failed:\n{done.stderr.strip()}")
    return done.stdout


@contextmanager
def one_site() -> Iterator[BenchSite]:
    """The demo fleet's first site alone, up for the length of the block."""
    with running(["bench"]) as status:
        yield site_of(status, "bench")


@contextmanager
def running(sites: Sequence[str]) -> Iterator[dict[str, Any]]:
    """A fleet like the demo's with these sites on free ports; yields `headend status --json` once ready."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headend-bench-")))
        file = folder / "fleet.yaml"
        file.write_text(yaml.safe_dump(declaration(sites)), "utf-8")
        stack.callback(headend, "down", "-f", str(file))
        headend("up", "-f", str(file), "--detach")
        yield json.loads(headend("status", "-f", str(file), "--json"))


def declaration(sites: Sequence[str]) -> dict[str, Any]:
    """The demo fleet's declaration with other sites."""
    free = ports.choose([f"{name} {door}" for name in sites for door in ("front", "peer")], {}, set())
    found: dict[str, Any] = demo_fleet().model_dump(
        mode="json", exclude_none=True, exclude={"sites", "fleet"}
    )
    return {
        **found,
        "fleet": "bench",
        "sites": {
            name: {
                "front_door": f"127.0.0.1:{free[f'{name} front']}",
                "peer": f"127.0.0.1:{free[f'{name} peer']}",
            }
            for name in sites
        },
    }


def fleet_of(status: dict[str, Any], sites: Sequence[str]) -> Fleet:
    """The declaration of the fleet that `running` has started with `sites`, from its status."""
    addresses = {
        name: {
            "front_door": status["sites"][name]["front_door"],
            "peer": f"127.0.0.1:{status['sites'][name]['parts']['envoy']['ports']['peer']}",
        }
        for name in sites
    }
    return Fleet.model_validate({**declaration(sites), "sites": addresses})


def site_of(status: dict[str, Any], name: str) -> BenchSite:
    """One site of `headend status --json`."""
    site = status["sites"][name]
    triton = site["parts"]["triton"]["ports"]
    return BenchSite(
        front_door=site["front_door"],
        triton_http=f"127.0.0.1:{triton['http']}",
        triton_grpc=f"127.0.0.1:{triton['grpc']}",
        pids=(site["pid"],),
        status=status,
    )
