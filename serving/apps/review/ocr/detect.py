"""Finding lines of text: what PP-OCR's detector is given, and boxes from the map it gives back.

The map holds, for each pixel, how likely it lies in the shrunk core of a line: Differentiable Binarization
(Liao et al. 2020, https://arxiv.org/abs/1911.08947). Boxes are the smallest rectangles around the cores,
grown back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from serving.apps.review.inference import Array, Floats
from serving.apps.review.ocr.geometry import Pixels, Quad, ordered, width_and_height

_MULTIPLE = 32
"""The network halves five times."""
_MARGIN = 32
"""Put around the picture, pixels of the map: else lines at its edges are found in part or not at all."""


@dataclass(frozen=True)
class Detection:
    """How lines are found; figures are PaddleOCR's own unless a reason is given."""

    pixels: int = 1280 * 720
    """Larger pictures are scaled down to this many. A 1080p picture as it is costs three times more, and
    captions are found well below that; they are *read* in the full picture. Pixels and not a side, because
    they are what costs: long screenshots and strips stay legible."""
    threshold: float = 0.3
    """From which likelihood on a pixel counts as text."""
    box_threshold: float = 0.5
    """Mean likelihood below which a box is dropped (RapidOCR's figure)."""
    grow: float = 1.6
    """How far cores are grown back: `area * grow / circumference` on every side."""
    smallest_side: float = 3
    """Cores thinner than this are dropped, pixels of the map."""
    most: int = 1000
    """Cores looked at, largest first."""


def prepare(bgr: Pixels, settings: Detection) -> Floats:
    """`[1, 3, height, width]`, both multiples of 32, from -1 to 1: the picture, scaled, with a margin."""
    height, width = bgr.shape[:2]
    scale = min(1.0, math.sqrt(settings.pixels / (height * width)))
    size = [max(_MULTIPLE, round(side * scale / _MULTIPLE) * _MULTIPLE) for side in (width, height)]
    framed = cv2.copyMakeBorder(
        cv2.resize(bgr, size), _MARGIN, _MARGIN, _MARGIN, _MARGIN, cv2.BORDER_REPLICATE
    )
    return np.ascontiguousarray(framed.transpose(2, 0, 1)[None], np.float32) / np.float32(127.5) - 1


def boxes(likelihood: Floats, shape: tuple[int, ...], settings: Detection) -> list[Quad]:
    """Boxes in the pixels of a picture of `shape` (height, width, …) from its map, `[height, width]`."""
    # Joins strokes that the threshold parted.
    mask = cv2.dilate((likelihood > settings.threshold).astype(np.uint8), np.ones((2, 2), np.uint8))
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    if len(contours) > settings.most:
        contours = sorted(contours, key=cv2.contourArea, reverse=True)[: settings.most]
    size = np.array([shape[1], shape[0]], np.float32)
    scale = size / (np.array(likelihood.shape[::-1], np.float32) - 2 * _MARGIN)
    found = []
    for contour in contours:
        if (box := _grown(likelihood, np.asarray(contour), settings)) is not None:
            quad = ordered(np.clip(np.round((box - _MARGIN) * scale), 0, size - 1))
            if min(width_and_height(quad)) > settings.smallest_side:
                found.append(quad)
    return found


def _grown(likelihood: Floats, contour: Array, settings: Detection) -> Quad | None:
    """The rectangle around a core, grown back; None when it is too thin or too unlikely."""
    centre, (width, height), angle = cv2.minAreaRect(contour)
    if min(width, height) < settings.smallest_side:
        return None
    core = np.asarray(cv2.boxPoints((centre, (width, height), angle)), np.float32)
    if _mean_inside(likelihood, core) < settings.box_threshold:
        return None
    # The smallest rectangle around a rectangle grown by a distance is that rectangle with longer sides:
    # no polygon clipping is needed.
    distance = width * height * settings.grow / (2 * (width + height))
    return np.asarray(
        cv2.boxPoints((centre, (width + 2 * distance, height + 2 * distance), angle)), np.float32
    )


def _mean_inside(likelihood: Floats, corners: Quad) -> float:
    """Mean likelihood inside the rectangle, over the part of the map around it."""
    limit = np.array(likelihood.shape[::-1]) - 1
    low = np.clip(np.floor(corners.min(axis=0)), 0, limit).astype(int)
    high = np.clip(np.ceil(corners.max(axis=0)), 0, limit).astype(int)
    part = likelihood[low[1] : high[1] + 1, low[0] : high[0] + 1]
    mask = np.zeros(part.shape, np.uint8)
    cv2.fillPoly(mask, [(corners - low).astype(np.int32)], (1,))
    return float(cv2.mean(part, mask)[0])
