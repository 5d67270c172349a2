"""The reader of CTranslate2's files, against a writer of the same layout and against damage."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.errors import IntegrityError
from models.whisper import ct2

CODES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}
arrays = st.sampled_from(sorted(CODES)).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, max_side=4))
)
names = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=12)


def string(text: str) -> bytes:
    raw = text.encode() + b"\0"
    return struct.pack("<H", len(raw)) + raw


def written(variables: dict[str, np.ndarray], aliases: dict[str, str], version: int = 6) -> bytes:
    out = struct.pack("<I", version) + string("WhisperSpec") + struct.pack("<II", 3, len(variables))
    for name, value in variables.items():
        out += string(name) + struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        out += struct.pack("<BI", CODES[value.dtype.name], value.nbytes) + value.tobytes()
    out += struct.pack("<I", len(aliases))
    return out + b"".join(string(alias) + string(name) for alias, name in aliases.items())


SAMPLE = written(
    {"a/weight": np.arange(6, dtype=np.float16).reshape(2, 3), "heads": np.int16(8).reshape(())},
    {"b/weight": "a/weight"},
)


def read(directory: Path, data: bytes) -> ct2.Weights:
    path = directory / "model.bin"
    path.write_bytes(data)
    return ct2.read(path)


@given(variables=st.dictionaries(names, arrays, max_size=5))
@settings(deadline=None)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, variables: dict[str, np.ndarray]
) -> None:
    aliases = {f"{name}+": name for name in variables if f"{name}+" not in variables}
    weights = read(tmp_path_factory.mktemp("ct2"), written(variables, aliases))
    assert (weights.spec, weights.revision) == ("WhisperSpec", 3)
    assert set(weights.variables) == set(variables) | set(aliases)
    for name, value in variables.items():
        assert weights.array(name).dtype == value.dtype
        np.testing.assert_array_equal(weights.array(name), value)
    for alias, name in aliases.items():
        assert weights.array(alias) is weights.array(name)


@pytest.mark.parametrize("size", range(len(SAMPLE)))
def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(IntegrityError):
        read(tmp_path, SAMPLE[:size])


@given(place=st.integers(0, len(SAMPLE) - 1), byte=st.integers(0, 255))
@settings(deadline=None, max_examples=300)
def test_a_damaged_file_is_read_or_refused_but_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    data = bytearray(SAMPLE)
    data[place] = byte
    try:
        weights = read(tmp_path_factory.mktemp("ct2"), bytes(data))
    except IntegrityError:
        return
    assert len(weights.variables) == 3


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (written({}, {}, version=5), "binary version 5"),
        (written({}, {"x": "y"}), "dangling"),
        (written({}, {}) + b"!", "goes on for 1 bytes"),
        (b"", "empty"),
    ],
)
def test_the_error_says_what_is_wrong(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        read(tmp_path, data)


def test_a_shape_beyond_the_file_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    huge = struct.pack("<I", 6) + string("W") + struct.pack("<II", 3, 1) + string("a")
    huge += struct.pack("<B2I", 2, 0xFFFFFFFF, 0xFFFFFFFF) + struct.pack("<BI", 0, 0xFFFFFFFF)
    with pytest.raises(IntegrityError, match="says it has"):
        read(tmp_path, huge)


def test_variables_are_asked_for_by_what_they_must_be(tmp_path: Path) -> None:
    weights = read(tmp_path, SAMPLE)
    assert weights.integer("heads") == 8
    assert weights.float32("b/weight").dtype == np.float32
    with pytest.raises(IntegrityError, match="no variable `c`"):
        weights.array("c")
    with pytest.raises(IntegrityError, match="not one integer"):
        weights.integer("a/weight")
    with pytest.raises(IntegrityError, match="floating-point"):
        weights.float32("heads")
