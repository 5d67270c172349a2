"""Engines: keys, cache and fall-back, with ONNX Runtime as the compiler; TensorRT where there is a GPU."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from conftest import write_model

from models.build import Built
from models.bundle import Bundle, open_bundle
from models.catalog_index import load_card
from models.engine import Compiler, Engine, Key, build_engine, cached, engine_key, obtain
from models.errors import HeadendError, MissingExtraError
from models.gpu import Gpu, find_gpu
from models.profiles import Profile, Range, profile
from models.recipe import Array, Case, Runner
from models.recorded import Recorded

GPU = Gpu("NVIDIA H100", "9.0")
HAS_GPU = shutil.which("nvidia-smi") is not None


def _optimise(graph: Path, allowed: Profile) -> bytes:
    out = graph.parent.parent.parent.parent / "optimised.onnx"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(out)
    onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    return out.read_bytes()


def _run(plans: Mapping[str, bytes]) -> Runner:
    sessions = {
        graph: onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        for graph, plan in plans.items()
    }

    def run(graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        names = [output.name for output in sessions[graph].get_outputs()]
        return dict(zip(names, sessions[graph].run(names, dict(inputs)), strict=True))

    return run


OPTIMISER = Compiler("onnxruntime", _optimise, _run)


@pytest.fixture
def bundle(built: Built) -> Bundle:
    return open_bundle(built.path, built.digest)


@pytest.fixture
def key(bundle: Bundle) -> Key:
    return engine_key(bundle, "fp32", OPTIMISER, GPU)


@pytest.mark.skipif(HAS_GPU, reason="this machine has nvidia-smi")
def test_without_a_gpu_it_says_exactly_that(bundle: Bundle) -> None:
    with pytest.raises(HeadendError, match="This machine has no NVIDIA GPU") as failure:
        build_engine(bundle)
    assert failure.value.exit_code == 1
    assert "ONNX Runtime" in failure.value.hint


@pytest.mark.skipif(HAS_GPU, reason="this machine has nvidia-smi")
def test_the_command_says_it_too(bundle: Bundle) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "models", "engine", "tiny"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "This machine has no NVIDIA GPU" in done.stderr


def test_a_driver_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'driver/library version mismatch' >&2\nexit 18\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HeadendError, match="driver/library version mismatch"):
        find_gpu()
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 9.0'\necho 'NVIDIA H100 80GB HBM3, 9.0'\n")
    assert find_gpu() == Gpu("NVIDIA H100 80GB HBM3", "9.0")


def test_the_key_has_all_that_a_plan_is_bound_to(key: Key) -> None:
    other = {"x": Range((1, 16), (4, 16), (4, 16))}
    changed = [
        replace(key, bundle="0" * 64),
        replace(key, tensorrt="10.7"),
        replace(key, gpu="NVIDIA L4"),
        replace(key, compute_capability="8.9"),
        replace(key, precision="fp16"),
        replace(key, profiles={"model": other}),
    ]
    assert len({key.digest, *(item.digest for item in changed)}) == 7
    assert replace(key).digest == key.digest


def test_an_engine_is_compiled_once_and_proven(bundle: Bundle, key: Key) -> None:
    compiled: list[Path] = []

    def compile_(graph: Path, allowed: Profile) -> bytes:
        compiled.append(graph)
        return _optimise(graph, allowed)

    compiler = replace(OPTIMISER, compile=compile_)
    first = obtain(bundle, key, compiler)
    assert first.path is not None
    assert first.plan("model").is_file()
    assert obtain(bundle, key, compiler) == first == cached(key)
    assert compiled == [bundle.graph("model", "fp32")]
    first.plan("model").write_bytes(b"damaged")
    assert cached(key) is None
    assert obtain(bundle, key, compiler) == first
    assert len(compiled) == 2


def test_what_cannot_be_compiled_falls_back_with_the_reason(bundle: Bundle, key: Key) -> None:
    def refuse(graph: Path, allowed: Profile) -> bytes:
        raise RuntimeError("Unsupported operator Loop")

    engine = obtain(bundle, key, replace(OPTIMISER, compile=refuse))
    assert engine == Engine(key, None, "RuntimeError: Unsupported operator Loop")
    with pytest.raises(HeadendError, match="Unsupported operator Loop"):
        engine.plan("model")
    assert obtain(bundle, key, OPTIMISER) == engine  # not tried at every start
    assert obtain(bundle, key, OPTIMISER, again=True).path is not None


def test_an_engine_that_is_off_is_not_used(bundle: Bundle, key: Key, tmp_path: Path) -> None:
    wrong = write_model(tmp_path / "wrong.onnx", scale=3.0).read_bytes()
    engine = obtain(bundle, key, replace(OPTIMISER, compile=lambda graph, allowed: wrong))
    assert engine.path is None
    assert "worst element" in engine.reason
    assert not list((tmp_path / "home" / "engines").glob("*/*.plan"))


def test_killed_while_compiling_nothing_is_left_behind(bundle: Bundle, key: Key) -> None:
    script = """
import os, signal
from models.bundle import open_bundle
from models.engine import Compiler, engine_key, obtain
from models.gpu import Gpu
from models.store import open_store
bundle = open_store().fetch("tiny")
compiler = Compiler("onnxruntime", lambda graph, allowed: os.kill(os.getpid(), signal.SIGKILL), None)
obtain(bundle, engine_key(bundle, "fp32", compiler, Gpu("NVIDIA H100", "9.0")), compiler)
"""
    dead = subprocess.run([sys.executable, "-c", script], check=False)
    assert dead.returncode == -signal.SIGKILL
    assert cached(key) is None
    assert obtain(bundle, key, OPTIMISER).path is not None


def test_a_profile_covers_batches_and_what_varies() -> None:
    card = load_card("ppocr-rec")
    lines = [np.zeros((count, 3, 48, width), np.float32) for count, width in ((1, 200), (1, 320), (2, 640))]
    recorded = [Recorded(Case("model", str(line.shape), {"x": line}), {}) for line in lines]
    assert profile(card, "model", recorded) == {
        "x": Range((1, 3, 48, 200), (4, 3, 48, 320), (16, 3, 48, 2560)),
    }


@pytest.mark.gpu
def test_tensorrt_builds_and_proves_an_engine(bundle: Bundle) -> None:
    try:
        find_gpu()
        engine = build_engine(bundle)
    except MissingExtraError as error:
        pytest.skip(str(error))
    except HeadendError as error:
        pytest.skip(error.message)
    assert engine.path is not None, engine.reason
