"""The machine itself: interpreter, cores, memory, disk, limits, clock."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from models.home import home
from serving.doctor.finding import GIB, Check, Finding
from serving.fleet import Fleet
from serving.router import envoy
from serving.router.view import FleetView, LocalPorts
from serving.site.spec import SiteDirectory

_MEMORY_PER_SITE = 2 * GIB
"""The demo's sites hold 1.4 GiB each at rest; work needs some."""


def _python(fleet: Fleet) -> Iterator[Finding]:
    """The interpreter and its C library."""
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
    """Cores."""
    cores = len(os.sched_getaffinity(0))
    yield Finding(
        "cores",
        "ok" if cores >= 2 else "note",
        f"{cores} ({platform.machine()})",
        "" if cores >= 2 else "It will be slow: two cores are the least that is comfortable.",
    )


def _memory(fleet: Fleet) -> Iterator[Finding]:
    """Enough for all sites."""
    need = _MEMORY_PER_SITE * len(fleet.sites)
    have = psutil.virtual_memory().available
    running = any(SiteDirectory(fleet.fleet, site).supervised() for site in fleet.sites)
    short = have < need and not running
    yield Finding(
        "memory",
        "problem" if short else "ok",
        f"{have / GIB:.1f} GiB available of {psutil.virtual_memory().total / GIB:.1f} GiB",
        f"{len(fleet.sites)} sites need about {need / GIB:.0f} GiB: run one with --site." if short else "",
    )


def _disk(fleet: Fleet) -> Iterator[Finding]:
    """Room for models, and for tensors on their way."""
    free = shutil.disk_usage(home()).free
    few = free < 3 * GIB
    yield Finding(
        "disk",
        "problem" if few else "ok",
        f"{free / GIB:.1f} GiB free for {home()}",
        "Models, logs and downloads need about 3 GiB: free some, or set HEADEND_HOME elsewhere."
        if few
        else "",
    )
    with TemporaryDirectory(dir=home()) as probe:
        Path(probe, "x").write_text("x")
    shared = shutil.disk_usage("/dev/shm")  # noqa: S108
    small = shared.free < GIB // 4
    yield Finding(
        "shared memory",
        "problem" if small else "ok",
        f"{shared.free / GIB:.1f} GiB free of {shared.total / GIB:.1f} GiB in /dev/shm",
        "Triton and Ray exchange tensors there: remount it larger (in Docker: --shm-size=1g)."
        if small
        else "",
    )


def _open_files(fleet: Fleet) -> Iterator[Finding]:
    """As many as connections need."""
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
    """Not in the past."""
    wrong = time.time() < 1_735_689_600  # 2025-01-01
    yield Finding(
        "clock",
        "note" if wrong else "ok",
        time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "It is in the past: downloads over TLS will fail. Set it (timedatectl)." if wrong else "",
    )


CHECKS: tuple[Check, ...] = (_python, _processor, _memory, _disk, _open_files, _watched_files, _clock)
