"""Network namespaces: one per site, each with an address of its own, and a way to it for this machine's load.

Everything is named so that it is known again: what a killed testbed left is found by name, its processes
through the namespace that they are in.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from models.errors import HeadendError

PREFIX = "headend-"
"""Of the namespaces' names."""
_NET = "10.213.0"
_HERE = "10.213.1.1"
"""This machine as the sites see it: where their clients are."""
_LINKS = "hbsite"
"""What the names of this machine's ends of the links to sites begin with."""
_NAMED = Path("/run/netns")


def obstacle() -> str:
    """Why no testbed can be built here; empty if one can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "the command `ip` (package iproute2) is missing"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun cannot be opened"
    # By process: another may look at the same moment.
    probe = f"probe-{PREFIX}{os.getpid()}"
    try:
        _ip("netns", "add", probe)
        _ip("-n", probe, "link", "add", "probe0", "type", "veth", "peer", "name", "probe1")
    except HeadendError as error:
        return f"this machine allows no network namespaces ({error.message})"
    finally:
        with suppress(HeadendError):
            _ip("netns", "delete", probe)
    return ""


def namespace(site: str) -> str:
    """The name of a site's namespace."""
    return f"{PREFIX}{site}"


def address(number: int) -> str:
    """The address of the site of this number, from 0."""
    return f"{_NET}.{number + 1}"


def inside(site: str, command: Iterable[str]) -> list[str]:
    """The command that runs `command` in a site's namespace; it has the same process id."""
    return ["ip", "netns", "exec", namespace(site), *command]


def create(sites: Iterable[str]) -> None:
    """Make the namespaces, and a link from here to each: clients are where their front door is."""
    _refuse_taken()
    for number, site in enumerate(sites):
        name, here, there = namespace(site), f"{_LINKS}{number}", "client0"
        _ip("netns", "add", name)
        _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        _ip("address", "add", f"{_HERE}/32", "peer", f"{address(number)}/32", "dev", here)
        _ip("link", "set", here, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "address", "add", f"{address(number)}/32", "peer", f"{_HERE}/32", "dev", there)
        _ip("-n", name, "link", "set", there, "up")


def set_interface(site: str, interface: str, state: str) -> None:
    """`up` or `down`."""
    _ip("-n", namespace(site), "link", "set", interface, state)


def remove_all() -> list[str]:
    """End every process in a testbed's namespaces and remove them; returns what was removed."""
    found = sorted(path.name for path in _NAMED.glob(f"{PREFIX}*")) if _NAMED.is_dir() else []
    for name in found:
        # A process may be starting another one while it is being ended.
        while pids := _ip("netns", "pids", name).split():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        _ip("netns", "delete", name)
    for link in Path("/sys/class/net").glob(f"{_LINKS}*"):
        # The kernel removes them with their namespaces, but later.
        with suppress(HeadendError):
            _ip("link", "delete", link.name)
    return found


def _refuse_taken() -> None:
    routes = _ip("route", "show")
    if f"{_NET}." in routes or _HERE in routes:
        raise HeadendError(
            f"This machine has routes to {_NET}.0/24 or {_HERE} already, which the testbed uses for itself.",
            hint="Another testbed? End it: headend loadtest testbed down",
        )


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise HeadendError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
