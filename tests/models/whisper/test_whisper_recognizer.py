"""The recogniser on a tiny model: batches, prompts, what is refused. Real speech is for the build tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import IntegrityError, UsageError
from models.whisper.decoding import MOST_TEXT, loop
from models.whisper.recognizer import LONGEST_S, RATE, Recognition, Recognizer


def sound(seconds: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(int(seconds * RATE)) * 0.1).astype(np.float32)


def same(a: Recognition, b: Recognition) -> bool:
    times = [(word.start, word.end) for word in a.words] == [(word.start, word.end) for word in b.words]
    near = a.avg_logprob == pytest.approx(b.avg_logprob, abs=1e-3)
    return (a.text, a.language) == (b.text, b.language) and times and near


def test_a_row_is_the_same_alone_and_in_company(recognizer: Recognizer) -> None:
    segments = [sound(0.4, 1), sound(2.0, 2), sound(1.1, 3)]
    languages, prompts = ["en", None, "zh"], [None, "before", "a much longer text before"]
    together = recognizer.recognize(segments, languages, prompts)
    for segment, language, prompt, found in zip(segments, languages, prompts, together, strict=True):
        [alone] = recognizer.recognize([segment], [language], [prompt])
        assert same(found, alone)


@pytest.mark.parametrize("samples", [1, 159, 320, 16_001, LONGEST_S * RATE])
def test_any_length_up_to_thirty_seconds(recognizer: Recognizer, samples: int) -> None:
    [found] = recognizer.recognize([np.zeros(samples, np.float32)], ["en"], [""])
    assert found.language == "en"
    assert "".join(word.text for word in found.words).strip() == found.text
    assert all(0 <= word.start <= word.end <= max(samples, 320) / RATE + 1e-6 for word in found.words)
    assert all(0 <= word.probability <= 1 for word in found.words)


def test_words_are_the_text_and_follow_each_other(recognizer: Recognizer) -> None:
    [found] = recognizer.recognize([sound(3, 4)], ["en"], [None])
    assert "".join(word.text for word in found.words).strip() == found.text
    starts = [word.start for word in found.words]
    assert starts == sorted(starts)
    assert found.avg_logprob <= 0
    assert 0 <= found.no_speech_probability <= 1


def test_nothing_in_nothing_out(recognizer: Recognizer) -> None:
    assert recognizer.recognize([], [], []) == []


@pytest.mark.parametrize(
    ("segment", "language", "message"),
    [
        (np.zeros(LONGEST_S * RATE + 1, np.float32), None, "at most 30 s"),
        (np.zeros((2, 8), np.float32), None, "one row of samples"),
        (np.zeros(0, np.float32), None, "one row of samples"),
        (np.array([0, np.nan], np.float32), None, "not finite"),
        (np.zeros(800, np.float32), "klingon", "unknown language `klingon`"),
    ],
)
def test_what_cannot_be_recognised_is_refused(
    recognizer: Recognizer, segment: np.ndarray, language: str | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        recognizer.recognize([segment], [language], [None])


def test_a_long_prompt_leaves_room_for_the_text(recognizer: Recognizer) -> None:
    [found] = recognizer.recognize([sound(1, 5)], ["en"], ["word " * 1000])
    assert found.language == "en"


def test_files_of_another_model_are_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError):
        Recognizer(tiny / "encoder.onnx", tiny / "decoder.onnx", tmp_path, threads=1)


@given(
    head=st.lists(st.integers(0, 9), max_size=6), unit=st.lists(st.integers(10, 99), min_size=1, max_size=12)
)
@settings(deadline=None)
def test_a_loop_is_found_and_cut_to_what_was_said_once(head: list[int], unit: list[int]) -> None:
    times = max(3, -(-24 // len(unit)) + 1)
    tokens = head + unit * times
    repeated = loop(tokens)
    assert repeated
    assert tokens[: len(tokens) - repeated][: len(head)] == head
    assert len(tokens) - repeated < len(tokens) - len(unit)


@given(st.lists(st.integers(0, 10**6), max_size=MOST_TEXT, unique=True))
@settings(deadline=None)
def test_text_that_repeats_nothing_is_no_loop(tokens: list[int]) -> None:
    assert loop(tokens) == 0
    assert loop(tokens + tokens) == 0
