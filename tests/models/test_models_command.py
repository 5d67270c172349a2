"""`headend models`, as a person and a script call it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import CARD, write_model

from models.build import Built


def models(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "models", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **env},
        cwd=Path(__file__).parents[2],
    )


def test_list_and_show_for_people_and_scripts(built: Built) -> None:
    listed = json.loads(models("list", "--json").stdout)["models"]
    assert {row["name"]: row["bundle"] for row in listed}["tiny"] == built.digest
    assert "not built" in models("list").stdout
    shown = json.loads(models("show", "tiny", "--json").stdout)
    assert shown["card"]["name"] == "tiny"
    assert shown["bundle"]["development_key"] is True
    assert "No bundle yet: headend models build open-nsfw" in models("show", "open-nsfw").stdout


def test_import_builds_and_verify_finds_damage(tmp_path: Path, state: Path) -> None:
    (tmp_path / "card.yaml").write_text(CARD)
    (tmp_path / "cases").mkdir()
    np.savez(tmp_path / "cases" / "one.npz", x=np.ones((1, 16), np.float32))
    model = write_model(tmp_path / "net.onnx", scale=0.3)
    done = models("import", str(model), "--card", str(tmp_path / "card.yaml"), "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["built"][0]
    assert result["name"] == "tiny"
    assert "development key" in done.stderr
    assert "parity" in done.stderr
    assert models("verify", "tiny").returncode == 0
    graph = Path(result["path"]) / "graphs" / "fp32" / "model.onnx"
    graph.write_bytes(b"x" * graph.stat().st_size)
    bad = models("verify", "tiny", "--json")
    assert bad.returncode == 1
    assert "graphs/fp32/model.onnx has digest" in json.loads(bad.stdout)["error"]
    assert "Traceback" not in bad.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["build", "silro-vad"], 2, "Did you mean `silero-vad`?"),
        (["build"], 2, "--all"),
        (["verify", "open-nsfw"], 2, "headend models build open-nsfw"),
        (["nonsense"], 2, "No such command"),
        (["import", "nothing.onnx", "--card", "nothing.yaml"], 2, "nothing.yaml: No such file"),
        (["list", "--store", "nosuch://x"], 2, "fsspec"),
    ],
)
def test_mistakes_are_told_without_a_traceback(arguments: list[str], code: int, says: str) -> None:
    done = models(*arguments)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_the_schema_is_json() -> None:
    assert json.loads(models("schema").stdout)["title"] == "Card"
