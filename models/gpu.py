"""Which NVIDIA GPU this machine has, as its driver says."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

from models.errors import HeadendError


@dataclass(frozen=True)
class Gpu:
    """The first GPU."""

    name: str
    compute_capability: str
    """As NVIDIA writes it: `9.0`."""


def find_gpu() -> Gpu:
    """The machine's first GPU. Raises `HeadendError` saying that there is none, or what the driver said."""
    command = ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    if shutil.which(command[0]) is None:
        raise HeadendError(
            "This machine has no NVIDIA GPU: its driver's nvidia-smi is not there.",
            hint="Models run on ONNX Runtime here. Build engines on the machine that serves them.",
        )
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    lines = [line for line in done.stdout.splitlines() if "," in line]
    if done.returncode or not lines:
        said = (done.stderr or done.stdout).strip()
        raise HeadendError(
            f"This machine has no NVIDIA GPU that works: nvidia-smi says: {said or 'nothing'}",
            hint="Models run on ONNX Runtime here. Check the driver: nvidia-smi",
        )
    name, capability = lines[0].rsplit(",", 1)
    return Gpu(name.strip(), capability.strip())
