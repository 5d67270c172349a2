"""Fetching: real pip, against a folder of real wheels."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from models.card import Card, Joined, Package, Source, SourceFile
from models.catalog_index import load_card
from models.errors import HeadendError, IntegrityError
from models.files import digest, sha256_file
from models.sources import fetch

PARTS = {"weights/data.part1": b"first half, ", "weights/data.part2": b"second half"}
WHOLE = b"".join(PARTS.values())


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel in a folder that pip is told to look into, and nowhere else."""
    path = tmp_path / "index" / "headend_test_weights-1.0-py3-none-any.whl"
    path.parent.mkdir()
    about = "Metadata-Version: 2.1\nName: headend-test-weights\nVersion: 1.0\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in PARTS.items():
            archive.writestr(name, data)
        archive.writestr("headend_test_weights-1.0.dist-info/METADATA", about)
        archive.writestr(
            "headend_test_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n"
        )
        archive.writestr("headend_test_weights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return path


@pytest.fixture
def card(wheel: Path) -> Callable[..., Card]:
    """A card whose source is the wheel."""

    def make(
        *,
        version: str = "1.0",
        wheel_sha256: str = "",
        part_sha256: str = "",
        joined_sha256: str = "",
        part: str = "weights/data.part1",
    ) -> Card:
        first, second = PARTS.values()
        files = [
            SourceFile(path=part, sha256=part_sha256 or digest(first), name="part1"),
            SourceFile(path="weights/data.part2", sha256=digest(second), name="part2"),
        ]
        package = Package(
            name="headend-test-weights",
            version=version,
            sha256=wheel_sha256 or sha256_file(wheel),
            files=files,
        )
        joined = Joined(name="data", parts=["part1", "part2"], sha256=joined_sha256 or digest(WHOLE))
        return load_card("silero-vad").model_copy(
            update={"name": "test", "source": Source(packages=[package], joined=[joined])}
        )

    return make


def test_parts_are_fetched_checked_and_joined(card: Callable[..., Card]) -> None:
    seen: list[str] = []
    directory = fetch(card(), lambda what, fraction: seen.append(what))
    assert (directory / "data").read_bytes() == WHOLE
    assert {path.name for path in directory.iterdir()} == {"data"}
    assert "downloading headend-test-weights 1.0" in seen


def test_fetched_once_it_is_not_downloaded_again(card: Callable[..., Card], wheel: Path) -> None:
    directory = fetch(card())
    pinned = card()
    wheel.unlink()
    assert fetch(pinned) == directory
    (directory / "data").write_bytes(b"damaged")
    assert (fetch(pinned) / "data").read_bytes() == WHOLE  # from the wheel in the cache


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("wheel_sha256", None),
        ("part_sha256", digest(PARTS["weights/data.part1"])),
        ("joined_sha256", digest(WHOLE)),
    ],
)
def test_a_differing_digest_is_refused_and_both_are_shown(
    card: Callable[..., Card], wheel: Path, state: Path, wrong: str, right: str | None
) -> None:
    pinned = "0" * 64
    found = right or sha256_file(wheel)
    with pytest.raises(IntegrityError, match=f"has digest {found}, but the card pins {pinned}"):
        fetch(card(**{wrong: pinned}))
    assert not list((state / "cache" / "sources").glob("[!.]*"))


def test_what_the_index_lacks_is_said_with_pips_words(card: Callable[..., Card]) -> None:
    with pytest.raises(HeadendError, match=r"(?s)could not download headend-test-weights 2.0.*No matching"):
        fetch(card(version="2.0"))


def test_a_file_the_wheel_lacks_is_said(card: Callable[..., Card]) -> None:
    with pytest.raises(IntegrityError, match=r"has no file weights/nothing"):
        fetch(card(part="weights/nothing"))
