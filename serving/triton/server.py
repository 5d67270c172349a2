"""The Triton Inference Server inside the `nvidia-pytriton` wheel: its files, command line and environment.

Not here: supervising the process (the site does that) and its model control (`serving.triton.control`).
"""

from __future__ import annotations

import ctypes.util
import hashlib
import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from models.errors import HeadendError
from serving.fleet import Tracing

EXIT_TIMEOUT_S = 10
"""How long a stopping Triton waits for requests in flight, seconds: the front door has drained it before."""


def _wheel() -> tuple[Path, Path]:
    """The wheel's `tritonserver` directory and its directory of shared libraries."""
    try:
        site_packages = Path(str(distribution("nvidia-pytriton").locate_file("")))
    except PackageNotFoundError as error:
        raise HeadendError(
            "Triton is not installed: the package nvidia-pytriton is missing.",
            hint="Install it: pip install nvidia-pytriton==0.7.0 (Linux x86-64 and arm64 only).",
        ) from error
    return site_packages / "pytriton" / "tritonserver", site_packages / "nvidia_pytriton.libs"


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _libpython() -> Path | None:
    """Where the shared Python library is that the stub links to; None: the loader finds it by itself."""
    library = f"libpython{_python()}.so.1.0"
    own = Path(str(sysconfig.get_config_var("LIBDIR")))
    if (own / library).exists():
        return own
    if ctypes.util.find_library(f"python{_python()}"):
        return None
    raise HeadendError(
        f"Triton's Python backend needs {library}, which this Python installation does not have.",
        hint=f"Install it: apt-get install libpython{_python()} (or build Python with --enable-shared).",
    )


def prepare_runtime(directory: Path) -> Path:
    """Make `directory` a backend directory for Triton and return it.

    The wheel keeps the Python backend and each Python version's stub apart; Triton wants the right stub
    beside the backend. Links are made in a new directory, then renamed: a half-made one is never used.
    """
    server, _ = _wheel()
    stub = server / "python_backend_stubs" / _python() / "triton_python_backend_stub"
    if not stub.exists():
        raise HeadendError(
            f"Triton's Python backend has no stub for Python {_python()}.",
            hint=f"Use one of: {', '.join(sorted(p.name for p in stub.parent.parent.iterdir()))}.",
        )
    wanted = [*(server / "backends" / "python").glob("*.*"), stub]
    backend = directory / "python"
    if {path.name: path for path in wanted} == {
        p.name: p.readlink() for p in backend.glob("*") if p.is_symlink()
    }:
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=".python-", dir=directory))
    fresh.chmod(0o755)
    for path in wanted:
        (fresh / path.name).symlink_to(path)
    shutil.rmtree(backend, ignore_errors=True)
    fresh.rename(backend)
    return directory


def command(
    repository: Path,
    http_port: int,
    grpc_port: int,
    metrics_port: int,
    models: Iterable[str],
    runtime_dir: Path,
    *,
    gpus: Sequence[int] = (),
    tracing: Tracing | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Command line and whole environment of one Triton, listening on 127.0.0.1 only.

    Args:
        repository: the model repository (`serving.triton.repository.write_repository`).
        http_port: also where the control API listens; the front door keeps it from clients.
        grpc_port: inference over gRPC.
        metrics_port: Prometheus text.
        models: what to load at the start; one that fails does not stop the others.
        runtime_dir: made a backend directory here; its name also marks this Triton's shared memory.
        gpus: GPU numbers that Triton may see; none hides all GPUs from it.
        tracing: where Triton's own spans of a request go: its queue, its backend's work.
    """
    server, libraries = _wheel()
    prepare_runtime(runtime_dir)
    local = "127.0.0.1"
    argv = [
        sys.executable,
        "-I",
        "-S",
        str(Path(__file__).with_name("watcher.py")),
        str(server / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        "--model-control-mode=explicit",
        *(f"--load-model={name}" for name in models),
        "--exit-on-error=false",
        # Readiness is asked model by model: one that failed to load must not make the others unready.
        "--strict-readiness=false",
        "--disable-auto-complete-config",
        f"--backend-directory={runtime_dir}",
        f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix(runtime_dir)}",
        f"--http-address={local}",
        f"--http-port={http_port}",
        f"--grpc-address={local}",
        f"--grpc-port={grpc_port}",
        f"--metrics-address={local}",
        f"--metrics-port={metrics_port}",
        f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
        "--log-format=ISO8601",
    ]
    if not gpus:
        argv += ["--pinned-memory-pool-byte-size=0", "--allow-gpu-metrics=false"]
    if tracing and tracing.inside_triton:
        argv += _tracing(tracing)
    return argv, _environment(libraries, gpus)


def _tracing(tracing: Tracing) -> list[str]:
    """Spans of what the front door traces (https://github.com/triton-inference-server/server, trace.md)."""
    settings = [
        "mode=opentelemetry",
        "level=TIMESTAMPS",
        # None by its own choice: only what comes with a `traceparent`.
        "rate=0",
        f"opentelemetry,url={tracing.url}",
        "opentelemetry,resource=service.name=headend-triton",
        "opentelemetry,bsp_schedule_delay=1000",
    ]
    return [f"--trace-config={setting}" for setting in settings]


def _environment(libraries: Path, gpus: Sequence[int]) -> dict[str, str]:
    # The stub finds its Python through PATH; PYTHONHOME of another installation would mislead it.
    env = {key: value for key, value in os.environ.items() if key not in {"PYTHONHOME", "PYTHONSTARTUP"}}
    path = [str(libraries), *(str(p) for p in [_libpython()] if p), os.environ.get("LD_LIBRARY_PATH", "")]
    env["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, path))
    env["PATH"] = os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ.get("PATH", os.defpath)])
    env["PYTHONUNBUFFERED"] = "1"  # a model's log lines appear when they are written
    env["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu) for gpu in gpus)
    return env


def shared_memory_prefix(runtime_dir: Path) -> str:
    """What the names of this Triton's regions in /dev/shm begin with; a killed Triton leaves them behind."""
    return f"headend_{hashlib.sha256(str(runtime_dir.absolute()).encode()).hexdigest()[:12]}_"
