"""Bundles and signatures: what was changed is found and named."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from models import signing
from models.build import Built, build
from models.bundle import open_bundle, write_bundle
from models.card import Card
from models.errors import IntegrityError, UsageError
from models.files import digest


def _flip(path: Path) -> None:
    """Change one byte, keeping size and modification time."""
    about = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def test_a_bundle_opens_and_gives_its_parts(built: Built) -> None:
    bundle = open_bundle(built.path, built.digest)
    assert bundle.digest == built.path.name == digest((built.path / "manifest.json").read_bytes())
    assert bundle.graph("model", "int8").is_file()
    assert bundle.card.name == "tiny"
    assert bundle.development
    assert set(bundle.parity()["precisions"]) == {"fp32", "fp16", "int8"}
    with pytest.raises(UsageError, match=r"no file `labels.txt`"):
        bundle.file("labels.txt")
    with pytest.raises(UsageError, match="graph `decoder`"):
        bundle.graph("decoder", "fp32")


@pytest.mark.parametrize(
    "name", ["graphs/fp32/model.onnx", "card.yaml", "parity.json", "manifest.json", "manifest.sig"]
)
def test_a_changed_byte_is_found_and_the_file_named(built: Built, name: str) -> None:
    open_bundle(built.path, built.digest)
    _flip(built.path / name)
    with pytest.raises(IntegrityError, match=name):
        open_bundle(built.path, built.digest)


def test_missing_extra_linked_and_longer_files_are_found(built: Built, tmp_path: Path) -> None:
    graph = built.path / "graphs" / "fp32" / "model.onnx"
    extra = built.path / "files" / "extra"
    extra.write_text("x")
    with pytest.raises(IntegrityError, match=r"files/extra is not in"):
        open_bundle(built.path, built.digest)
    extra.unlink()
    extra.symlink_to("/etc/passwd")
    with pytest.raises(IntegrityError, match=r"files/extra is a link"):
        open_bundle(built.path, built.digest)
    extra.unlink()
    moved = tmp_path / "model.onnx"
    shutil.move(graph, moved)
    with pytest.raises(IntegrityError, match=r"model.onnx is missing"):
        open_bundle(built.path, built.digest)
    graph.symlink_to(moved)
    with pytest.raises(IntegrityError, match=r"model.onnx is a link"):
        open_bundle(built.path, built.digest)
    graph.unlink()
    graph.write_bytes(moved.read_bytes() + b"x")
    with pytest.raises(IntegrityError, match=r"has \d+ bytes, expected \d+"):
        open_bundle(built.path, built.digest)


def test_a_folder_that_is_a_link_is_refused(built: Built, tmp_path: Path) -> None:
    shutil.move(built.path / "graphs", tmp_path / "graphs")
    (built.path / "graphs").symlink_to(tmp_path / "graphs")
    with pytest.raises(IntegrityError, match="graphs is a link"):
        open_bundle(built.path, built.digest)


def test_a_wrong_key_is_refused_until_it_is_trusted(built: Built, tmp_path: Path) -> None:
    stranger = signing.Signer(Ed25519PrivateKey.generate(), development=False)
    contents = tmp_path / "contents"
    shutil.copytree(built.path, contents, ignore=shutil.ignore_patterns("manifest.*"))
    card = Card.load(contents / "card.yaml")
    path = write_bundle(contents, card, stranger, tmp_path / "bundles")
    assert path.name == built.digest  # who signed is not part of what it is
    with pytest.raises(IntegrityError, match=f"key {stranger.key_id}, which this machine does not trust"):
        open_bundle(path, built.digest)
    public = stranger.key.public_key()
    signing.trusted_keys().mkdir(parents=True)
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (signing.trusted_keys() / "stranger.pub").write_bytes(pem)
    bundle = open_bundle(path, built.digest)
    assert bundle.signed_by == stranger.key_id
    assert not bundle.development


def test_a_signature_of_something_else_is_refused(built: Built) -> None:
    (built.path / "manifest.sig").write_bytes(signing.load_signer().sign(b"something else"))
    with pytest.raises(IntegrityError, match="does not match what it signs"):
        open_bundle(built.path, built.digest)
    (built.path / "manifest.sig").write_text("{}")
    with pytest.raises(IntegrityError, match=r"manifest.sig is not a signature"):
        open_bundle(built.path, built.digest)


@pytest.mark.parametrize(
    "name", ["../escape", "/etc/passwd", "a/../../b", "manifest.json", ".hidden", "a//b", ""]
)
def test_a_signed_manifest_cannot_reach_outside(built: Built, name: str) -> None:
    manifest = json.loads((built.path / "manifest.json").read_bytes())
    manifest["files"][name] = {"sha256": "0" * 64, "size": 0}
    data = json.dumps(manifest).encode()
    (built.path / "manifest.json").write_bytes(data)
    (built.path / "manifest.sig").write_bytes(signing.load_signer().sign(data))
    with pytest.raises(IntegrityError, match="which no bundle may contain"):
        open_bundle(built.path, digest(data))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 1, "files": {"a": 3}}', '{"format": 2}', "\xff"]
)
def test_what_is_not_a_manifest_is_said_to_be_none(built: Built, text: str) -> None:
    data = text.encode("latin-1")
    (built.path / "manifest.json").write_bytes(data)
    (built.path / "manifest.sig").write_bytes(signing.load_signer().sign(data))
    with pytest.raises(IntegrityError, match=r"manifest.json"):
        open_bundle(built.path, digest(data))


def test_the_development_key_is_private_and_stays(state: Path) -> None:
    first = signing.load_signer()
    assert first.development
    assert stat.S_IMODE((state / "keys" / "development.pem").stat().st_mode) == 0o600
    assert signing.load_signer().key_id == first.key_id


def test_an_own_key_signs_instead(state: Path, tiny: Callable[..., str]) -> None:
    key = Ed25519PrivateKey.generate()
    (state / "keys").mkdir(parents=True)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (state / "keys" / "signing.pem").write_bytes(pem)
    result = build(tiny())
    assert not result.development
    assert open_bundle(result.path, result.digest).signed_by == signing.key_id(key.public_key())


def test_signed_with_another_key_later_it_is_signed_again(state: Path, built: Built) -> None:
    (state / "keys" / "development.pem").unlink()
    again = build("tiny")
    assert again.digest == built.digest
    assert open_bundle(again.path, again.digest).development


def test_recorded_inputs_travel_with_the_sources_answers(built: Built) -> None:
    (item,) = open_bundle(built.path, built.digest).recorded()
    assert item.case.graph == "model"
    assert item.case.inputs["x"].shape == (3, 16)
    assert item.expected["y"].shape == (3, 4)
    assert item.expected["y"].sum() == pytest.approx(3)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_keys_made_with_openssl_sign_and_are_trusted(state: Path) -> None:
    keys = state / "keys"
    (keys / "trusted").mkdir(parents=True)
    private, public = keys / "signing.pem", keys / "trusted" / "fleet.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    signer = signing.load_signer()
    signature = signer.sign(b"data")
    private.unlink()
    trust = signing.load_trust()
    assert trust.verify(b"data", signature, "test") == signer.key_id
    with pytest.raises(IntegrityError):
        trust.verify(b"date", signature, "test")
