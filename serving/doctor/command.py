"""The command: goes through all checks and tells what they found."""

from __future__ import annotations

import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from models.console import err, out, print_json
from models.errors import HeadendError
from serving.doctor import machine, programs, sites
from serving.doctor.finding import Check, Finding
from serving.fleet import Fleet, demo_fleet

_COLOUR = {"ok": "green", "note": "yellow", "problem": "red"}


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
        for check in (*machine.CHECKS, *programs.CHECKS, *sites.CHECKS):
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


def _safely(check: Check, fleet: Fleet) -> list[Finding]:
    name = check.__name__.strip("_").replace("_", " ")
    try:
        return list(check(fleet))
    except (HeadendError, OSError, ImportError, subprocess.SubprocessError) as error:
        hint = error.hint if isinstance(error, HeadendError) else ""
        return [Finding(name, "problem", str(getattr(error, "message", error)), hint)]
