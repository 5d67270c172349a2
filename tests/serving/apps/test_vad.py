"""Windows and segments."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.apps.subtitles.audio import RATE
from serving.apps.subtitles.vad import CONTEXT, WINDOW, Segmenter, Span, Thresholds, windows

S = RATE / WINDOW  # windows a second


def probabilities(*runs: tuple[float, float]) -> np.ndarray:
    """From (seconds, probability) runs."""
    return np.concatenate([np.full(round(seconds * S), value, np.float32) for seconds, value in runs])


def segments(values: np.ndarray, rules: Thresholds | None = None) -> list[Span]:
    segmenter = Segmenter(rules)
    return [*segmenter.feed(values), *segmenter.finish(len(values) * WINDOW)]


def seconds(span: Span) -> tuple[float, float]:
    return round(span.start / RATE, 1), round(span.end / RATE, 1)


def test_windows_carry_their_context_from_block_to_block() -> None:
    sound = np.arange(1, 3 * WINDOW + 101, dtype=np.float32)
    whole, _ = windows(np.zeros(CONTEXT, np.float32), sound)
    first, context = windows(np.zeros(CONTEXT, np.float32), sound[: 2 * WINDOW])
    second, _ = windows(context, sound[2 * WINDOW :])
    assert whole.shape == (4, CONTEXT + WINDOW)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    np.testing.assert_array_equal(whole[1, :CONTEXT], sound[WINDOW - CONTEXT : WINDOW])
    assert whole[3, CONTEXT + 100 :].max() == 0


def test_speech_with_padding() -> None:
    found = segments(probabilities((1, 0.01), (2, 0.9), (2, 0.01)))
    assert [seconds(span) for span in found] == [(0.8, 3.2)]


def test_padding_stays_inside_the_clip() -> None:
    values = probabilities((2, 0.9))
    assert segments(values) == [Span(0, len(values) * WINDOW)]


def test_short_pauses_stay_inside_long_ones_part() -> None:
    found = segments(probabilities((1, 0.9), (0.4, 0.01), (1, 0.9), (1.5, 0.01), (1, 0.9), (1, 0)))
    assert [seconds(span) for span in found] == [(0.0, 2.6), (3.7, 5.1)]


def test_between_the_thresholds_nothing_begins_and_nothing_ends() -> None:
    assert segments(probabilities((5, 0.45))) == []
    assert len(segments(probabilities((1, 0.9), (3, 0.45), (1, 0.9), (1, 0)))) == 1


def test_a_click_is_no_speech() -> None:
    assert segments(probabilities((1, 0), (0.1, 0.9), (2, 0))) == []


def test_long_speech_is_cut_where_it_is_least_likely() -> None:
    found = segments(probabilities((20, 0.95), (0.1, 0.6), (20, 0.95), (1, 0)))
    assert [seconds(span) for span in found] == [(0.0, 20.0), (20.0, 40.3)]


@given(
    st.lists(st.tuples(st.floats(0.05, 12), st.floats(0, 1)), max_size=12),
    st.lists(st.integers(1, 400), max_size=6),
)
def test_segments_of_any_probabilities(runs: list[tuple[float, float]], sizes: list[int]) -> None:
    values = probabilities((0.5, 0.0), *runs)
    found = segments(values)
    edges = [0, *(edge for span in found for edge in (span.start, span.end)), len(values) * WINDOW]
    assert edges == sorted(edges)
    assert all(WINDOW <= span.end - span.start < 30 * RATE for span in found)
    spoken = np.flatnonzero(values >= 0.5) * WINDOW
    inside = sum(any(span.start <= at < span.end for span in found) for at in spoken)
    assert inside >= len(spoken) - len(runs) * 0.2 * S - 1  # all but clicks
    segmenter, parts, at = Segmenter(), [], 0
    for size in [*sizes, len(values)]:  # however it comes, in blocks of any size
        before = segmenter.needed_from
        fed = segmenter.feed(values[at : at + size])
        assert all(span.start >= before for span in fed)
        parts += fed
        at += size
    assert [*parts, *segmenter.finish(len(values) * WINDOW)] == found
