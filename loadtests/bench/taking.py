"""How long a front door takes to follow a plan: the plan's files written, and taken up by a real Envoy.

The front door of one site of a made-up fleet, the pools of which every site serves; the other sites do not
run. What Envoy has taken is what its own counters say.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx

from loadtests.bench import bare_envoy
from serving.fleet import Fleet
from serving.router import envoy
from serving.router.plan import Plan
from serving.router.view import FleetView, LocalPorts
from serving.site import ports

POOLS = 5
"""At most: Envoy watches each endpoint file with an instance of inotify of its own, and Linux allows a user
128 of them unless told otherwise."""
_TAKEN = {"format": "json", "filter": r"\.update_success$"}
_LOOK_EVERY_S = 0.005
_WITHIN_S = 30.0


def measure(plans: Sequence[Plan]) -> dict[str, float]:
    """Of each plan after the first: seconds to write it, and until Envoy has taken it since writing began;
    the median. Raises `TimeoutError` where Envoy does not take one."""
    door = plans[0].problem.sites[0]
    with ExitStack() as stack:
        out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headend-bench-")))
        chosen = ports.choose(["door", "peer", "triton", "admin"], {}, set())
        view = _view(plans[0], door, chosen)
        envoy.write_config(view, out, access_log=out / "access.log")
        process = subprocess.Popen(envoy.command(out, workers=1, log_level="error"))
        stack.callback(process.wait, 20)
        stack.callback(process.terminate)
        admin = f"http://127.0.0.1:{chosen['admin']}"
        bare_envoy.wait(process, f"{admin}/ready")
        client = stack.enter_context(httpx.Client(base_url=admin, trust_env=False))
        found = [_one(client, _planned(view, each, door), out) for each in plans[1:]]
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def _one(client: httpx.Client, view: FleetView, out: Path) -> dict[str, float]:
    before, begun = _taken(client), time.monotonic()
    files = envoy.write_shares(view, out)
    written = time.monotonic()
    while _taken(client) < before + files:
        if time.monotonic() > written + _WITHIN_S:
            raise TimeoutError(f"Envoy has not taken {files} files within {_WITHIN_S:.0f} s")
        time.sleep(_LOOK_EVERY_S)
    return {"files": files, "written_s": written - begun, "taken_s": time.monotonic() - begun}


def _taken(client: httpx.Client) -> int:
    return sum(each.get("value", 0) for each in client.get("/stats", params=_TAKEN).json()["stats"])


def _planned(view: FleetView, plan: Plan, door: str) -> FleetView:
    return replace(view, plan=plan.of_door(door), thresholds=plan.thresholds(door))


def _view(plan: Plan, door: str, chosen: dict[str, int]) -> FleetView:
    sites = {
        site: {"front_door": f"127.{1 + n // 250}.{n % 250}.1:8080"}
        for n, site in enumerate(plan.problem.sites)
    }
    sites[door] = {"front_door": f"127.0.0.1:{chosen['door']}", "peer": f"127.0.0.1:{chosen['peer']}"}
    models: dict[str, dict[str, str]] = {pool.name: {} for pool in sorted(plan.pools)[:POOLS]}
    fleet = Fleet.model_validate({"fleet": "bench", "models": models, "sites": sites})
    local = LocalPorts(chosen["triton"], chosen["triton"], {}, chosen["admin"])
    return _planned(FleetView.of(fleet, door, local), plan, door)
