"""The README's Python, as a newcomer pastes it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from fleet_process import RunningFleet

ROOT = Path(__file__).parents[2]
CLIP = ROOT / "models/catalog/whisper-base/clips/aishell-mid.wav"
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("block", BLOCKS, ids=["openai", "tritonclient"])
def test_it_runs_as_it_stands(fleet: RunningFleet, tmp_path: Path, block: str) -> None:
    for name in ("clip.mp4", "long.wav"):
        (tmp_path / name).symlink_to(CLIP)
    assert "127.0.0.1:8080" in block
    code = block.replace("127.0.0.1:8080", fleet.door("hub"))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    if "openai" in block:
        assert "-->" in done.stdout
        assert "transcript.text.done" in done.stdout
        assert "'decision'" in done.stdout
    else:
        assert re.search(r"\[\[[\d. e-]+\]\]", done.stdout)
