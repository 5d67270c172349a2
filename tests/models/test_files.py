"""Atomic writes and canonical digests."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.files import canonical_json, locked, new_directory, tree_digests, write_atomic

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_canonical_json_reads_back_and_has_one_spelling(value: object) -> None:
    data = canonical_json(value)
    assert json.loads(data) == value
    assert canonical_json(json.loads(data)) == data


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_the_order_of_keys_does_not_matter(values: dict[str, int]) -> None:
    assert canonical_json(values) == canonical_json(dict(reversed(values.items())))


def test_a_directory_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "here"
    with pytest.raises(IsADirectoryError), new_directory(target) as fresh:
        fresh.write_text("1")
    assert not target.exists()
    for text in ("1", "2"):
        with new_directory(target) as fresh:
            (fresh / "a").write_text(text)
        assert (target / "a").read_text() == text
    assert list(tmp_path.glob(".new-*")) == []


def test_a_killed_writer_leaves_the_old_and_its_rubbish_is_swept(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from models.files import new_directory
with new_directory(Path(sys.argv[1])) as fresh:
    (fresh / "a").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    target = tmp_path / "here"
    with new_directory(target) as fresh:
        (fresh / "a").write_text("old")
    dead = subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    assert dead.returncode == -signal.SIGKILL
    assert (target / "a").read_text() == "old"
    assert list(tmp_path.glob(".new-*"))
    with new_directory(target) as fresh:
        (fresh / "a").write_text("new")
    assert (target / "a").read_text() == "new"
    assert list(tmp_path.glob(".new-*")) == []


def test_a_file_is_written_with_its_mode(tmp_path: Path) -> None:
    write_atomic(tmp_path / "deep" / "key", b"secret", mode=0o600)
    assert (tmp_path / "deep" / "key").stat().st_mode & 0o777 == 0o600
    assert tree_digests(tmp_path) == {
        "deep/key": "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
    }


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    from models.errors import HeadendError

    with (
        locked(tmp_path / "lock"),
        pytest.raises(HeadendError, match="busy"),
        locked(tmp_path / "lock", busy="busy"),
    ):
        pass
    with locked(tmp_path / "lock", busy="busy"):
        pass
