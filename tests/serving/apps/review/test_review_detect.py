"""Boxes from maps with known text, the order of reading, and cutting lines out."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.apps.review.inference import Floats
from serving.apps.review.ocr import detect
from serving.apps.review.ocr.geometry import cut_out, in_reading_order, ordered, width_and_height

SETTINGS = detect.Detection()
MARGIN = 32


def map_with(cores: list[tuple[tuple[float, float], tuple[float, float], float]]) -> Floats:
    """A map of a picture 640x320 with cores: (centre, size, degrees) in pixels of the picture."""
    likelihood = np.zeros((320 + 2 * MARGIN, 640 + 2 * MARGIN), np.float32)
    for (x, y), size, angle in cores:
        corners = cv2.boxPoints(((x + MARGIN, y + MARGIN), size, angle))
        cv2.fillPoly(likelihood, [np.round(corners).astype(np.int32)], (0.9,))
    return likelihood


def test_a_core_is_grown_back() -> None:
    (quad,) = detect.boxes(map_with([((300, 100), (200, 20), 0)]), (320, 640, 3), SETTINGS)
    grown = 200 * 20 * 1.6 / (2 * (200 + 20))
    expected = [
        (200 - grown, 90 - grown),
        (400 + grown, 90 - grown),
        (400 + grown, 110 + grown),
        (200 - grown, 110 + grown),
    ]
    np.testing.assert_allclose(quad, expected, atol=2)


def test_boxes_are_in_pixels_of_the_picture() -> None:
    likelihood = map_with([((300, 100), (200, 20), 0)])
    (small,) = detect.boxes(likelihood, (320, 640, 3), SETTINGS)
    (large,) = detect.boxes(likelihood, (960, 1280, 3), SETTINGS)
    np.testing.assert_allclose(large, small * [2, 3], atol=2)


@settings(deadline=None)
@given(st.floats(-30, 30), st.floats(150, 480), st.floats(110, 210))
def test_turned_lines(angle: float, x: float, y: float) -> None:
    (quad,) = detect.boxes(map_with([((x, y), (160, 16), angle)]), (320, 640, 3), SETTINGS)
    np.testing.assert_allclose(quad.mean(axis=0), (x, y), atol=2)
    width, height = width_and_height(quad)
    grown = 160 * 16 * 1.6 / (160 + 16)
    assert (width, height) == pytest.approx((160 + grown, 16 + grown), abs=10)  # drawn in whole pixels
    slope = np.degrees(np.arctan2(*(quad[1] - quad[0])[::-1]))
    assert slope == pytest.approx(angle, abs=2)


def test_the_thin_and_the_unlikely_are_dropped() -> None:
    faint = map_with([((300, 100), (200, 20), 0)]) * np.float32(0.5)
    assert detect.boxes(faint, (320, 640, 3), SETTINGS) == []
    assert detect.boxes(map_with([((300, 100), (200, 1), 0)]), (320, 640, 3), SETTINGS) == []
    assert detect.boxes(map_with([]), (320, 640, 3), SETTINGS) == []


def test_boxes_stay_inside_the_picture() -> None:
    for quad in detect.boxes(
        map_with([((0, 5), (100, 20), 0), ((639, 318), (80, 20), 5)]), (320, 640, 3), SETTINGS
    ):
        assert (quad >= 0).all()
        assert (quad <= [639, 319]).all()


def test_noise_does_not_cost_more_than_the_limit() -> None:
    noise = np.random.default_rng(0).random((736, 1280)).astype(np.float32)
    assert len(detect.boxes(noise, (736, 1280, 3), SETTINGS)) <= SETTINGS.most


@given(st.integers(1, 3000), st.integers(1, 3000))
@settings(max_examples=30, deadline=None)
def test_what_the_detector_gets(height: int, width: int) -> None:
    tensor = detect.prepare(np.full((height, width, 3), 255, np.uint8), SETTINGS)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    assert tensor.shape[:2] == (1, 3)
    assert all(side % 32 == 0 and side >= 96 for side in tensor.shape[2:])
    assert (tensor == 1).all()
    inner = (tensor.shape[2] - 2 * MARGIN) * (tensor.shape[3] - 2 * MARGIN)
    assert inner <= SETTINGS.pixels * 1.2 + 32 * max(tensor.shape)


def test_small_pictures_are_not_enlarged() -> None:
    tensor = detect.prepare(np.zeros((320, 640, 3), np.uint8), SETTINGS)
    assert tensor.shape == (1, 3, 320 + 2 * MARGIN, 640 + 2 * MARGIN)
    assert (tensor == -1).all()


@given(st.permutations([(10.0, 20.0), (90.0, 22.0), (91.0, 50.0), (11.0, 48.0)]))
def test_corners_in_order(corners: list[tuple[float, float]]) -> None:
    assert ordered(np.array(corners, np.float32)).tolist() == [[10, 20], [90, 22], [91, 50], [11, 48]]


def test_reading_order() -> None:
    def line(x: float, y: float) -> np.ndarray:
        return np.array([[x, y], [x + 50, y], [x + 50, y + 20], [x, y + 20]], np.float32)

    quads = [line(200, 104), line(10, 200), line(10, 100), line(100, 96), line(10, 230)]
    starts = [tuple(quad[0]) for quad in in_reading_order(quads)]
    assert starts == [(10, 100), (100, 96), (200, 104), (10, 200), (10, 230)]


def test_cut_outs_are_flat() -> None:
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[20:40, 30:130] = (1, 2, 3)
    flat, turned = cut_out(pixels, np.array([[30, 20], [130, 20], [130, 40], [30, 40]], np.float32))
    assert flat.shape == (20, 100, 3)
    assert not turned
    assert (flat == (1, 2, 3)).all()


def test_text_that_runs_downwards_is_laid_flat() -> None:
    pixels = np.zeros((200, 100, 3), np.uint8)
    pixels[50:100, 40:60] = 255  # the upper half
    quad = np.array([[40, 50], [60, 50], [60, 150], [40, 150]], np.float32)
    flat, turned = cut_out(pixels, quad)
    assert turned
    assert flat.shape == (20, 100, 3)
    # Turned clockwise, text begins at the top; a quarter anticlockwise brings its beginning to the left.
    assert flat[:, :45].mean() > 250
    assert flat[:, 55:].mean() < 5
