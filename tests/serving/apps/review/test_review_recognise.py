"""What the recogniser and the direction classifier get, and text from what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import IntegrityError
from serving.apps.review.inference import Floats
from serving.apps.review.ocr import recognise

LABELS = ["", "a", "b", "中", " "]


def says(steps: list[int], sure: float = 0.9) -> Floats:
    """A recogniser that says these classes, step by step."""
    table = np.full((1, len(steps), len(LABELS)), (1 - sure) / 4, np.float32)
    table[0, range(len(steps)), steps] = sure
    return table


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ([0, 1, 1, 0, 2, 0], "ab"),
        ([1, 1, 0, 1, 3, 3], "aa中"),
        ([1, 4, 2], "a b"),
        ([0, 0, 0], ""),
        ([], ""),
    ],
)
def test_repeats_and_blanks_collapse(steps: list[int], text: str) -> None:
    assert recognise.decode(says(steps), LABELS) == [(text, pytest.approx(0.9 if text else 0))]


@given(st.text("ab中 ", max_size=10), st.integers(1, 3), st.integers(1, 3))
def test_decoding_undoes_spelling_out(text: str, repeats: int, blanks: int) -> None:
    steps = [step for c in text for step in [LABELS.index(c)] * repeats + [0] * blanks]
    assert recognise.decode(says(steps), LABELS)[0][0] == text


def test_labels_of_another_recogniser_are_refused() -> None:
    with pytest.raises(IntegrityError, match="5 classes, its labels 4"):
        recognise.decode(says([1]), LABELS[:-1])


def test_labels_come_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes("a\nb\n\u3000\n中\n".encode())
    assert recognise.load_labels(path) == ["", "a", "b", "\u3000", "中", " "]


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\n\xff"])
def test_files_that_are_no_labels(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "labels.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(IntegrityError, match="labels"):
        recognise.load_labels(path)


def line(width: int, height: int = 24, level: int = 255) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def test_lines_are_scaled_and_padded() -> None:
    batch = recognise.recognition_input([line(50), line(200)])
    assert batch.shape == (2, 3, 48, 448)  # 400 wide, in steps of 64
    assert batch.dtype == np.float32
    assert (batch[0, :, :, :100] == 1).all()
    assert (batch[0, :, :, 100:] == 0).all()
    assert (batch[1, :, :, :400] == 1).all()


def test_no_line_is_narrower_than_training_or_wider_than_sensible() -> None:
    assert recognise.recognition_input([line(1)]).shape[3] == 320
    assert recognise.recognition_input([line(9000, 10)]).shape[3] == 3072


def test_the_direction_classifier_gets_all_of_a_long_line() -> None:
    batch = recognise.direction_input([line(2000), line(24, level=0)])
    assert batch.shape == (2, 3, 48, 192)
    assert (batch[0] == 1).all()
    assert (batch[1, :, :, :48] == -1).all()
    assert (batch[1, :, :, 48:] == 0).all()


def test_only_what_is_surely_upside_down_is_turned() -> None:
    table = np.array([[0.95, 0.05], [0.05, 0.95], [0.2, 0.8]], np.float32)
    assert recognise.upside_down(table) == [False, True, False]


@given(st.lists(st.integers(1, 3000), max_size=40), st.integers(1, 6))
def test_batches_hold_every_line_once_and_one_width_each(widths: list[int], size: int) -> None:
    lines = [line(width) for width in widths]
    batches = recognise.by_width(lines, size)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lines)))
    for batch in batches:
        assert 0 < len(batch) <= size
        assert len({recognise.recognition_input([lines[i]]).shape for i in batch}) == 1
