"""Reader of CTranslate2's `model.bin`.

The layout follows the writer, `ModelSpec._serialize` in CTranslate2's `specs/model_spec.py`
(binary version 6), little-endian throughout::

    u32 binary version · string spec name · u32 spec revision
    u32 count, then per variable: string name · u8 rank · u32 per dimension · u8 dtype · u32 bytes · data
    u32 count, then per alias:    string alias · string variable

A string is a u16 length that counts its closing NUL, then UTF-8 bytes, then the NUL.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import IntegrityError

VERSION = 6
"""The binary version read; older ones lack aliases or write dtypes differently."""

# Order of `DataType` in CTranslate2's include/ctranslate2/types.h, but for bfloat16, which NumPy lacks.
_DTYPES: Mapping[int, np.dtype[Any]] = {
    0: np.dtype("<f4"),
    1: np.dtype("<i1"),
    2: np.dtype("<i2"),
    3: np.dtype("<i4"),
    4: np.dtype("<f2"),
}


@dataclass(frozen=True)
class Weights:
    """The variables of a model."""

    spec: str
    """Name of the model's specification, `WhisperSpec` for Whisper."""
    revision: int
    variables: Mapping[str, npt.NDArray[Any]]
    """Read-only arrays in their stored dtype, aliases included."""

    def float32(self, name: str) -> npt.NDArray[np.float32]:
        """Variable `name` as FP32. Raises `IntegrityError` when there is none or it is not floating-point."""
        value = self.array(name)
        if value.dtype.kind != "f":
            raise IntegrityError(
                f"variable `{name}` holds {value.dtype}, floating-point weights are needed",
                hint="Convert the model without quantisation (float32 or float16).",
            )
        return value.astype(np.float32)

    def integer(self, name: str) -> int:
        """Scalar variable `name`. Raises `IntegrityError` when there is none or it is not one integer."""
        value = self.array(name)
        if value.size != 1 or value.dtype.kind != "i":
            raise IntegrityError(f"variable `{name}` is not one integer but {value.dtype}{list(value.shape)}")
        return int(value.item())

    def array(self, name: str) -> npt.NDArray[Any]:
        """Variable `name` as stored. Raises `IntegrityError` when there is none."""
        if name not in self.variables:
            raise IntegrityError(f"the model has no variable `{name}`; it has {len(self.variables)} others")
        return self.variables[name]


def read(path: Path) -> Weights:
    """Read `path`, memory-mapped: arrays are views of it. Raises `IntegrityError` for anything malformed."""
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            raise IntegrityError(f"{path} is empty")
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    reader = _Reader(data, str(path))
    version = reader.unpack("I", "binary version")
    if version != VERSION:
        raise IntegrityError(f"{path} has CTranslate2 binary version {version}, not {VERSION}")
    spec, revision = reader.string("spec name"), reader.unpack("I", "spec revision")
    variables: dict[str, npt.NDArray[Any]] = {}
    for name, value in reader.variables():
        if name in variables:
            raise IntegrityError(f"{path} has the variable `{name}` twice")
        variables[name] = value
    for alias, name in reader.aliases():
        if name not in variables or alias in variables:
            raise IntegrityError(f"{path}: alias `{alias}` of `{name}` is dangling or taken")
        variables[alias] = variables[name]
    if reader.offset != len(data):
        raise IntegrityError(f"{path} goes on for {len(data) - reader.offset} bytes after its last alias")
    return Weights(spec, revision, variables)


class _Reader:
    """A position in the file; every step checks that what it reads is there."""

    def __init__(self, data: mmap.mmap, where: str) -> None:
        self.data, self.where, self.offset = data, where, 0

    def variables(self) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        for _ in range(self.unpack("I", "number of variables")):
            name = self.string("variable name")
            rank = self.unpack("B", f"rank of `{name}`")
            shape = [self.unpack("I", f"shape of `{name}`") for _ in range(rank)]
            code = self.unpack("B", f"dtype of `{name}`")
            size = self.unpack("I", f"size of `{name}`")
            yield name, self._array(name, shape, code, size)

    def aliases(self) -> Iterator[tuple[str, str]]:
        for _ in range(self.unpack("I", "number of aliases")):
            yield self.string("alias"), self.string("aliased variable")

    def string(self, what: str) -> str:
        size = self.unpack("H", f"length of {what}")
        raw = self._take(size, what)
        if not raw.endswith(b"\0"):
            raise IntegrityError(f"{self.where}: {what} at byte {self.offset - size} does not end with NUL")
        try:
            return raw[:-1].decode("utf-8")
        except UnicodeDecodeError as error:
            raise IntegrityError(f"{self.where}: {what} at byte {self.offset - size} is not UTF-8") from error

    def unpack(self, code: str, what: str) -> int:
        layout = struct.Struct("<" + code)
        value: int = layout.unpack(self._take(layout.size, what))[0]
        return value

    def _array(self, name: str, shape: list[int], code: int, size: int) -> npt.NDArray[Any]:
        if code not in _DTYPES:
            raise IntegrityError(f"{self.where}: variable `{name}` has the unsupported dtype number {code}")
        dtype = _DTYPES[code]
        count = 1
        for dimension in shape:
            count *= dimension
        if count * dtype.itemsize != size:
            raise IntegrityError(
                f"{self.where}: variable `{name}` of shape {shape} and {dtype} says it has {size} bytes"
            )
        self._need(size, f"data of `{name}`")
        try:
            value = np.frombuffer(self.data, dtype, count, self.offset).reshape(shape)
        except ValueError as error:  # more dimensions than NumPy has, or none of any size
            raise IntegrityError(f"{self.where}: variable `{name}` cannot have shape {shape}") from error
        self.offset += size
        return value

    def _take(self, size: int, what: str) -> bytes:
        self._need(size, what)
        raw = self.data[self.offset : self.offset + size]
        self.offset += size
        return raw

    def _need(self, size: int, what: str) -> None:
        left = len(self.data) - self.offset
        if size > left:
            raise IntegrityError(
                f"{self.where} is cut short: {what} needs {size} bytes at byte {self.offset}, {left} are left"
            )
