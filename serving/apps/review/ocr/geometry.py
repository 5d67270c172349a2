"""Quadrilaterals around lines of text: corners in order, the order of reading, cutting them out upright."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Quad = npt.NDArray[np.float32]
"""`[4, 2]`: x and y of the corners top left, top right, bottom right, bottom left, in pixels."""

_UPRIGHT_RATIO = 1.5
"""A cut-out this much taller than wide is text that runs downwards (PaddleOCR's figure)."""


def ordered(corners: Quad) -> Quad:
    """The four corners from the top left, clockwise."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    top_left, bottom_left = sorted(by_x[:2], key=lambda corner: float(corner[1]))
    top_right, bottom_right = sorted(by_x[2:], key=lambda corner: float(corner[1]))
    return np.array([top_left, top_right, bottom_right, bottom_left], np.float32)


def width_and_height(quad: Quad) -> tuple[float, float]:
    """The longer of each pair of opposite sides, pixels."""
    sides = np.linalg.norm(quad - np.roll(quad, -1, axis=0), axis=1)
    return float(max(sides[0], sides[2])), float(max(sides[1], sides[3]))


def in_reading_order(quads: list[Quad]) -> list[Quad]:
    """Top to bottom, and left to right among those whose tops are within half the height of its first."""
    rows: list[list[Quad]] = []
    for quad in sorted(quads, key=lambda quad: float(quad[0, 1])):
        if rows and quad[0, 1] - rows[-1][0][0, 1] < width_and_height(rows[-1][0])[1] / 2:
            rows[-1].append(quad)
        else:
            rows.append([quad])
    return [quad for row in rows for quad in sorted(row, key=lambda quad: float(quad[0, 0]))]


def cut_out(pixels: Pixels, quad: Quad) -> tuple[Pixels, bool]:
    """What is in `quad` as a rectangle, and whether it was turned a quarter anticlockwise to lie flat."""
    width, height = (max(1, int(side)) for side in width_and_height(quad))
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    matrix = cv2.getPerspectiveTransform(quad, target)
    flat = np.asarray(
        cv2.warpPerspective(
            pixels, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE, flags=cv2.INTER_CUBIC
        ),
        np.uint8,
    )
    if height / width >= _UPRIGHT_RATIO:
        return np.ascontiguousarray(np.rot90(flat)), True
    return flat, False
