"""Stores: the same answers from a directory and from any other file system."""

from __future__ import annotations

import uuid
from pathlib import Path

import fsspec
import pytest

from models.build import Built, build
from models.bundle import open_bundle
from models.errors import IntegrityError, UsageError
from models.store import Store, open_store


@pytest.fixture(params=["directory", "memory"])
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store that is not the machine's own."""
    if request.param == "directory":
        return open_store(str(tmp_path / "shared"))
    return open_store(f"memory://{uuid.uuid4().hex}")


def _other_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: Path) -> Path:
    """From here on this is a machine that trusts the first one's key and has nothing else."""
    fresh = tmp_path / "second"
    (fresh / "keys").mkdir(parents=True)
    (fresh / "keys" / "development.pem").write_bytes((state / "keys" / "development.pem").read_bytes())
    monkeypatch.setenv("HEADEND_HOME", str(fresh))
    return fresh


def test_an_empty_store_says_what_to_do(other: Store) -> None:
    assert other.names() == []
    assert other.current("silero-vad") is None
    with pytest.raises(UsageError, match="headend models build silero-vad"):
        other.fetch("silero-vad")


def test_a_pushed_bundle_is_pulled_whole_by_another_machine(
    built: Built, other: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: Path
) -> None:
    other.put(open_bundle(built.path, built.digest))
    assert other.names() == ["tiny"]
    fresh = _other_machine(monkeypatch, tmp_path, state)
    bundle = other.fetch("tiny")
    assert bundle.digest == built.digest
    assert bundle.path.is_relative_to(fresh)
    assert bundle.graph("model", "fp32").read_bytes() == (built.path / "graphs/fp32/model.onnx").read_bytes()
    assert other.fetch("tiny", built.digest) == bundle


def test_a_damaged_remote_bundle_never_arrives(
    built: Built, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: Path
) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    remote = open_store(url)
    remote.put(open_bundle(built.path, built.digest))
    fs, root = fsspec.core.url_to_fs(url)
    path = f"{root}/bundles/{built.digest}/graphs/fp16/model.onnx"
    good = fs.cat_file(path)
    fs.pipe_file(path, good[:-1] + bytes([good[-1] ^ 1]))
    fresh = _other_machine(monkeypatch, tmp_path, state)
    with pytest.raises(IntegrityError, match=r"graphs/fp16/model.onnx has digest"):
        remote.fetch("tiny")
    fs.rm(path)
    with pytest.raises(IntegrityError, match="missing from the store"):
        remote.fetch("tiny")
    assert not (fresh / "store" / "bundles" / built.digest).exists()
    fs.pipe_file(path, good)
    assert remote.fetch("tiny").digest == built.digest


def test_building_into_a_store_makes_it_current_there(other: Store, built: Built) -> None:
    again = build("tiny", store=other)
    assert again.digest == built.digest
    assert other.current("tiny") == built.digest


def test_a_damaged_local_bundle_is_written_anew_by_a_build(built: Built) -> None:
    graph = built.path / "graphs" / "fp32" / "model.onnx"
    graph.write_bytes(b"x" * graph.stat().st_size)
    with pytest.raises(IntegrityError, match=r"model.onnx has digest"):
        open_store().fetch("tiny")
    build("tiny")
    assert open_store().fetch("tiny").digest == built.digest


def test_a_bundle_is_only_its_own_models(built: Built) -> None:
    with pytest.raises(IntegrityError, match="is of `tiny`, not of `other`"):
        open_store().fetch("other", built.digest)


def test_wrong_digests_and_urls_are_said(built: Built) -> None:
    with pytest.raises(UsageError, match="not a bundle digest"):
        open_store().fetch("tiny", "../../etc")
    with pytest.raises(UsageError, match="has no bundle"):
        open_store().fetch("tiny", "0" * 64)
    with pytest.raises(UsageError, match="cannot be opened"):
        open_store("nosuch://place")
