"""Reading lines: what PP-OCR's direction classifier and recogniser are given, and what they say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from models.errors import IntegrityError
from serving.apps.review.inference import Array, Floats
from serving.apps.review.ocr.geometry import Pixels

_HEIGHT = 48
_DIRECTION_WIDTH = 192
_NARROWEST = 320
"""The recogniser was trained on pictures of this width; shorter lines are padded to it."""
_STEP = 64
"""Widths are rounded up to multiples of this: on a CPU padding costs as much as text, and Triton joins
requests of several pictures only if their widths are equal."""
_WIDEST = 48 * 64
"""Longer lines are squeezed: beyond this, the table of probabilities alone has tens of megabytes."""
_TURNED_FROM = 0.9
"""How sure the direction classifier must be to turn a line (PaddleOCR's figure)."""
_BLANK = 0


def load_labels(path: Path) -> list[str]:
    """The recogniser's characters by class: the file's lines, between the blank of CTC and the space.

    `path` is the bundle's `labels.txt`, one character a line in the order of the classes.
    Raises `IntegrityError` when it cannot be that.
    """
    try:
        lines = path.read_bytes().decode().removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path} cannot be read as labels: {error}") from error
    if len(lines) < 2:
        raise IntegrityError(f"{path} has {len(lines)} labels; expected one character a line")
    return ["", *lines, " "]


def direction_input(lines: Sequence[Pixels]) -> Floats:
    """`[lines, 3, 48, 192]`: the beginning of long lines would not help, they are squeezed."""
    return _batch(lines, _DIRECTION_WIDTH)


def upside_down(probabilities: Array) -> list[bool]:
    """Which lines to turn by 180 degrees, from the classifier's `[lines, 2]`."""
    return [bool(turned > _TURNED_FROM) for turned in probabilities[:, 1]]


def by_width(lines: Sequence[Pixels], size: int) -> list[list[int]]:
    """Indices of lines in batches of at most `size` of one width."""
    alike: dict[int, list[int]] = {}
    for i, line in enumerate(lines):
        alike.setdefault(_width(line), []).append(i)
    return [same[i : i + size] for _, same in sorted(alike.items()) for i in range(0, len(same), size)]


def recognition_input(lines: Sequence[Pixels]) -> Floats:
    """`[lines, 3, 48, width]`, as wide as the widest line needs."""
    return _batch(lines, max(_width(line) for line in lines))


def decode(probabilities: Array, labels: Sequence[str]) -> list[tuple[str, float]]:
    """Text and mean confidence of each line from `[lines, steps, classes]`: CTC, greedy (Graves 2006).

    Raises `IntegrityError` when the labels are not this recogniser's.
    """
    if probabilities.shape[2] != len(labels):
        raise IntegrityError(
            f"the recogniser has {probabilities.shape[2]} classes, its labels {len(labels)}: of two bundles"
        )
    best, sure = probabilities.argmax(axis=2), probabilities.max(axis=2)
    return [_collapse(classes, levels, labels) for classes, levels in zip(best, sure, strict=True)]


def _collapse(classes: Array, levels: Array, labels: Sequence[str]) -> tuple[str, float]:
    """Repeats count once, blanks not at all."""
    kept = classes != _BLANK
    kept[1:] &= classes[1:] != classes[:-1]
    if not kept.any():
        return "", 0.0
    return "".join(labels[i] for i in classes[kept]), float(levels[kept].mean())


def _ratio(line: Pixels) -> float:
    return line.shape[1] / line.shape[0]


def _width(line: Pixels) -> int:
    """How wide the recogniser sees a line: what it needs at 48 pixels' height, padded."""
    needed = math.ceil(_HEIGHT * _ratio(line) / _STEP) * _STEP
    return min(max(needed, _NARROWEST), _WIDEST)


def _batch(lines: Sequence[Pixels], width: int) -> Floats:
    """Lines at 48 pixels' height, from -1 to 1, padded with 0 on the right to `width`."""
    batch = np.zeros((len(lines), 3, _HEIGHT, width), np.float32)
    for place, line in zip(batch, lines, strict=True):
        fitting = min(width, math.ceil(_HEIGHT * _ratio(line)))
        resized = cv2.resize(line, (fitting, _HEIGHT))
        place[:, :, :fitting] = resized.transpose(2, 0, 1) / np.float32(127.5) - 1
    return batch
