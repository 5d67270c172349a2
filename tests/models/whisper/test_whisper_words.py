"""Word times: dynamic time warping, the median, and how words join and shrink."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from models.whisper.words import FRAME_S, align, dtw, median_filter

costs = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(-9, 9).map(float)
)


def cheapest(cost: np.ndarray) -> float:
    """By the textbook's recurrence, cell by cell."""
    total = np.full((cost.shape[0] + 1, cost.shape[1] + 1), np.inf)
    total[0, 0] = 0
    for i, j in np.ndindex(*cost.shape):
        total[i + 1, j + 1] = cost[i, j] + min(total[i, j], total[i, j + 1], total[i + 1, j])
    return float(total[-1, -1])


@given(costs)
@settings(deadline=None)
def test_the_path_is_monotonic_complete_and_cheapest(cost: np.ndarray) -> None:
    rows, columns = dtw(cost)
    assert (rows[0], columns[0]) == (0, 0)
    assert (rows[-1] + 1, columns[-1] + 1) == cost.shape
    steps = set(zip(np.diff(rows).tolist(), np.diff(columns).tolist(), strict=True))
    assert steps <= {(0, 1), (1, 0), (1, 1)}
    assert cost[rows, columns].sum() == pytest.approx(cheapest(cost))


@given(hnp.arrays(np.float32, (2, 3, 12), elements=st.floats(-5, 5, width=32)))
@settings(deadline=None)
def test_the_median_is_numpys(x: np.ndarray) -> None:
    padded = np.pad(x, [(0, 0), (0, 0), (3, 3)], mode="reflect")
    expected = np.median(np.lib.stride_tricks.sliding_window_view(padded, 7, axis=-1), axis=-1)
    np.testing.assert_array_equal(median_filter(x), expected)


def test_too_few_frames_for_a_median_stay() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(median_filter(x), x)


def attention(starts: list[int], frames: int, before: int = 3) -> np.ndarray:
    """Two heads that look at each token's own stretch of frames; the last start is the end's."""
    rows = np.full((before + len(starts), frames), 0.01, np.float32)
    rows[:before, 0] = 1.0
    for row, (first, last) in enumerate(zip(starts, [*starts[1:], frames], strict=True)):
        rows[before + row, first:last] = 1.0
    return np.stack([rows, rows])


def test_words_get_the_times_their_tokens_look_at() -> None:
    words = [(" one", 1), (" two", 2), (" three", 1)]
    found = align(attention([0, 20, 30, 45, 60], 80), 3, words, [0.5, 0.2, 0.4, 0.9])
    assert [word.text for word in found] == [" one", " two", " three"]
    expected = [(0, 20), (20, 45), (45, 60)]
    for word, (start, end) in zip(found, expected, strict=True):
        assert word.start == pytest.approx(start * FRAME_S, abs=0.05)
        assert word.end == pytest.approx(end * FRAME_S, abs=0.05)
    assert [word.probability for word in found] == pytest.approx([0.5, 0.3, 0.9])


def test_a_text_cut_short_ends_with_the_sound() -> None:
    found = align(attention([0, 20], 30), 3, [("a", 1), ("b", 1)], [1.0, 1.0])
    assert found[-1].end == pytest.approx(30 * FRAME_S)


def test_no_words_no_times() -> None:
    assert align(attention([0], 10), 3, [], []) == []


def test_punctuation_joins_its_neighbours() -> None:
    words = [(' "', 1), (" Hi", 1), (",", 1), (" you", 1), ("!", 1), ('"', 1)]
    found = align(attention([0, 10, 20, 30, 40, 50, 60], 70), 3, words, [1.0] * 6)
    assert [word.text for word in found] == [' " Hi,', ' you!"']
    assert "".join(word.text for word in found) == "".join(text for text, _ in words)


def test_a_word_stretched_over_the_pause_before_it_shrinks() -> None:
    words = [("一", 1), ("二", 1), ("。", 1), ("三", 1), ("四", 1)]
    found = align(attention([0, 10, 20, 25, 145, 155], 165), 3, words, [1.0] * 5)
    third = found[2]
    assert third.text == "三"
    assert third.end - third.start < 0.5
