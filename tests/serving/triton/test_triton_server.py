"""Triton's command line, environment and backend directory."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from serving.triton import server


def test_binds_to_this_machine_only(tmp_path: Path) -> None:
    argv, _ = server.command(tmp_path / "repository", 1, 2, 3, ["a", "b"], tmp_path / "runtime")
    addresses = [argument for argument in argv if "-address=" in argument]
    assert len(addresses) == 3
    assert all(argument.endswith("=127.0.0.1") for argument in addresses)
    assert [argument for argument in argv if argument.startswith("--load-model")] == [
        "--load-model=a",
        "--load-model=b",
    ]
    assert {"--model-control-mode=explicit", "--exit-on-error=false"} < set(argv)


def test_the_stub_finds_this_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/elsewhere")
    _, env = server.command(tmp_path / "repository", 1, 2, 3, [], tmp_path / "runtime")
    assert env["PATH"].split(os.pathsep)[0] == str(Path(sys.prefix) / "bin")
    assert "PYTHONHOME" not in env
    assert env["CUDA_VISIBLE_DEVICES"] == ""


def test_gpus_are_shown_to_it_when_the_site_has_some(tmp_path: Path) -> None:
    argv, env = server.command(tmp_path / "repository", 1, 2, 3, [], tmp_path / "runtime", gpus=[0, 2])
    assert env["CUDA_VISIBLE_DEVICES"] == "0,2"
    assert "--allow-gpu-metrics=false" not in argv


def test_the_runtime_directory_is_whole_and_made_once(tmp_path: Path) -> None:
    runtime = server.prepare_runtime(tmp_path)
    names = {path.name for path in (runtime / "python").iterdir()}
    assert names == {"libtriton_python.so", "triton_python_backend_utils.py", "triton_python_backend_stub"}
    assert all(path.exists() for path in (runtime / "python").iterdir())
    made = (runtime / "python").stat().st_ino
    server.prepare_runtime(tmp_path)
    assert (runtime / "python").stat().st_ino == made


def test_a_damaged_runtime_directory_is_made_anew(tmp_path: Path) -> None:
    server.prepare_runtime(tmp_path)
    (tmp_path / "python" / "triton_python_backend_stub").unlink()
    server.prepare_runtime(tmp_path)
    assert (tmp_path / "python" / "triton_python_backend_stub").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["python"]


def test_two_sites_do_not_share_the_names_of_shared_memory(tmp_path: Path) -> None:
    assert server.shared_memory_prefix(tmp_path / "hub") != server.shared_memory_prefix(tmp_path / "edge")
