"""`make demo`: the main job, step by step, with the commands that anyone can run again."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule

import models

console = Console(highlight=False)
HEADEND = Path(sys.executable).with_name("headend")
CATALOG = Path(models.__file__).parent / "catalog"
CLIP = CATALOG / "whisper-base" / "clips" / "aishell-BAC009S0724W0121.wav"
PICTURE = CATALOG / "ppocr-det" / "cases" / "caption.jpg"


def demo() -> None:
    """Run every step; the sites are ended whatever happens."""
    step(
        "This machine",
        "What it has and lacks. Nothing here needs a GPU or Docker.",
        "doctor",
    )
    step(
        "Models",
        "Weights come out of pinned packages, become ONNX, and are compared with their source runtime on "
        "recorded real inputs. Only what is equal within its card's tolerances is signed and stored. "
        "What is built already is not built again.",
        *("models", "build", "--all"),
    )
    try:
        serve_and_ask()
    finally:
        step("Stop", "Every process ends, by its own handle.", "down")


def serve_and_ask() -> None:
    """Two sites, a subtitle, a review, and the same again with a site in pieces."""
    step(
        "Two sites",
        "Each has Triton for models, Ray Serve for apps, and Envoy as its front door: hub on :8080, "
        "edge on :8090. Ray takes its time to start.",
        *("up", "--detach"),
    )
    step(
        "Subtitles",
        "Human Mandarin speech goes through hub's front door and comes back as a subtitle file.",
        *("call", "subtitles", str(CLIP), "--site", "hub", "--format", "srt"),
    )
    step(
        "Review",
        "A picture comes back with what is on it, the text read from it, and a decision.",
        *("call", "review", str(PICTURE), "--site", "hub"),
    )
    step(
        "Kill the models of one site",
        "kill -9 for hub's Triton, and at once the same question to hub: its front door lets edge answer, "
        "while hub's supervisor starts Triton again.",
        *("call", "subtitles", str(CLIP), "--site", "hub", "--format", "srt"),
        kill=("hub", "triton"),
    )
    step(
        "Lose the whole site",
        "hub is gone, front door and all. A client that knows both addresses asks edge.",
        *("down", "--site", "hub"),
    )
    step("", "", "call", "subtitles", str(CLIP), "--format", "text")
    console.print(
        "\nThat was it. Bring the sites up again with [bold].venv/bin/headend up[/] and call them with the "
        "openai package, tritonclient or curl: see README.md."
    )


def step(title: str, why: str, *command: str, kill: tuple[str, str] | None = None) -> None:
    """Explain, show the command, run it; a command that fails ends the demo with its exit code."""
    if title:
        console.print()
        console.print(Rule(f"[bold]{title}", align="left"))
        console.print(why)
    if kill:
        victim = part(*kill)
        console.print(f"[dim]$ kill -9 {victim['pid']}[/]")
        os.kill(victim["pid"], signal.SIGKILL)
    console.print(f"[dim]$ headend {shlex.join(shown(command))}[/]")
    sys.stdout.flush()
    subprocess.run([HEADEND, *command], check=True)


def shown(command: Sequence[str]) -> list[str]:
    """The command with paths as a person would type them here."""
    here = f"{Path.cwd()}{os.sep}"
    return [word.removeprefix(here) for word in command]


def part(site: str, name: str) -> dict[str, Any]:
    """One part in `headend status --json`."""
    answer = subprocess.run([HEADEND, "status", "--json"], check=False, capture_output=True)
    found: dict[str, Any] = json.loads(answer.stdout)["sites"][site]["parts"][name]
    return found


if __name__ == "__main__":
    try:
        demo()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except KeyboardInterrupt:
        sys.exit(130)
