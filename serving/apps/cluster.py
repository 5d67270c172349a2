"""The local Ray cluster under a site's apps: only what Serve needs, on the loopback interface only, bounded.

`ray.init` would start a dashboard, a log monitor and an autoscaler monitor beside it, each a Python process;
Ray's `Node`, which `ray.init` uses, can start without them. It also lets the raylet know its agents' ports in
advance. Left to find them out, the raylet dies when an agent takes more than 15 s to start, as it does on a
busy machine (hard-coded, https://github.com/ray-project/ray/issues/65983). Ray is pinned, for none of this is
a public interface.

Not guaranteed: that nothing is left when this process is killed. The kernel then kills the GCS and the
raylet, and Ray's workers follow within seconds, but the raylet's two agents outlive it. Whoever supervises
this process must end what it leaves: as a subreaper, or by its session (setsid), in which all of them stay.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.errors import HeadendError

_OBJECT_STORE_BYTES = 80 << 20
"""Apps pass nothing through Ray's object store; this is about the least that Ray accepts."""
_LOG_BYTES = 4 << 20


def environment(run_dir: Path) -> dict[str, str]:
    """Ray's settings. They are read while Ray is imported, so set them before."""
    return {
        # Every client of the cluster must know the token; by default it would lie in ~/.ray.
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(_write_token(run_dir)),
        # Ray's switch for single machines: all of its addresses are 127.0.0.1, whatever the system is.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # On a busy machine agents start slowly: let that be slow, not fatal.
        "RAY_agent_register_timeout_ms": "200000",
        "RAY_worker_register_timeout_seconds": "200",
        "RAY_gcs_server_request_timeout_seconds": "200",
        "RAY_raylet_start_wait_time_s": "200",
        # Serve's controller looks after its replicas ten times a second by default: an idle site pays for it.
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
        # Nobody reads Ray's own metrics here, and collecting them costs each process CPU time.
        "RAY_enable_metrics_collection": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ROTATION_MAX_BYTES": str(_LOG_BYTES),
        "RAY_ROTATION_BACKUP_COUNT": "1",
    }


@contextmanager
def running(run_dir: Path) -> Iterator[Any]:
    """A cluster and this process connected to it, as Ray's `Node`; both are ended on the way out."""
    import ray

    temp_dir = _empty(temp_dir_of(run_dir))
    try:
        # One level down: Ray opens its directories to all users.
        node = _start(temp_dir / "ray")
        try:
            ray.init(address=node.address, log_to_driver=False, configure_logging=False)
            yield node
        finally:
            ray.shutdown()
            node.kill_all_processes(check_alive=False, allow_graceful=True, wait=True)
    finally:
        shutil.rmtree(temp_dir, ignore_errors=True)


def _start(temp_dir: Path) -> Any:
    from ray import _raylet
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    raylet: Any = _raylet
    with socket.create_server(("127.0.0.1", 0)) as probe:
        agent_port = probe.getsockname()[1]
    ports = {
        raylet.RUNTIME_ENV_AGENT_PORT_NAME: agent_port,
        # -1 stands for a service that is not used.
        raylet.DASHBOARD_AGENT_LISTEN_PORT_NAME: -1,
        raylet.METRICS_AGENT_PORT_NAME: -1,
        raylet.METRICS_EXPORT_PORT_NAME: -1,
    }

    class Bare(Node):
        def start_api_server(self, **_: object) -> None:
            self._webui_url = ""

        def start_raylet(self, *arguments: Any, **options: Any) -> None:
            for name, port in ports.items():
                raylet.persist_port(self._session_dir, self._node_id, name, port)
            super().start_raylet(*arguments, **options)

    parameters = RayParams(
        temp_dir=str(temp_dir),
        object_store_memory=_OBJECT_STORE_BYTES,
        runtime_env_agent_port=agent_port,
        no_monitor=True,
        include_log_monitor=False,  # type: ignore[arg-type]  # annotated as text, used as a truth value
        include_dashboard=False,
    )
    return Bare(parameters, head=True, shutdown_at_exit=False, spawn_reaper=True)


def _write_token(run_dir: Path) -> Path:
    path = run_dir / "token"
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32))
    return path


def temp_dir_of(run_dir: Path) -> Path:
    """Where Ray keeps sockets and its own logs, always the same for `run_dir`.

    Not below `run_dir`, because a socket's path may have 107 bytes and Ray's own part of it takes 68.
    """
    digest = hashlib.sha256(str(run_dir.absolute()).encode()).hexdigest()
    return Path(tempfile.gettempdir()) / f"headend-{os.getuid()}-{digest[:12]}"


def _empty(path: Path) -> Path:
    """Make `path` an empty directory of our own."""
    if path.exists() and (path.is_symlink() or path.stat().st_uid != os.getuid()):
        raise HeadendError(f"{path} is somebody else's.", hint="Set TMPDIR to a directory of your own.")
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o700)
    return path
