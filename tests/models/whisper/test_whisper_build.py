"""Whisper base built for real, and what its bundle hears and when, against CTranslate2.

The build is kept between runs in the end-to-end tests' state directory: a first run takes minutes more.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
from built import TEST_HOME, alone

from models import sources
from models.build import build
from models.bundle import Bundle
from models.catalog_index import load_card
from models.recipe import Clip
from models.recipes import CardRecipe
from models.store import open_store
from models.whisper.recognizer import LONGEST_S, RATE, Recognizer
from models.whisper.words import FRAME_S

pytestmark = [pytest.mark.build, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def home() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADEND_HOME", str(TEST_HOME))
        yield


@pytest.fixture(scope="module")
def bundle(home: None) -> Bundle:
    with alone():
        build("whisper-base")
    return open_store().fetch("whisper-base")


@pytest.fixture(scope="module")
def source(home: None) -> Path:
    return sources.fetch(load_card("whisper-base"))


@pytest.fixture(scope="module")
def recipe() -> CardRecipe:
    return CardRecipe(load_card("whisper-base"))


@pytest.fixture(scope="module")
def clips(recipe: CardRecipe) -> dict[str, Clip]:
    return {clip.name: clip for clip in recipe.own("clips")()}


def load(bundle: Bundle, precision: Any) -> Recognizer:
    graphs = bundle.graph("encoder", precision), bundle.graph("decoder", precision)
    return Recognizer(*graphs, bundle.path / "files", threads=2)


@pytest.fixture(scope="module", params=["fp32", "int8"])
def recognizer(bundle: Bundle, request: pytest.FixtureRequest) -> Recognizer:
    return load(bundle, request.param)


def test_every_precision_was_proven(bundle: Bundle) -> None:
    report = bundle.parity()["precisions"]
    assert set(report) == set(load_card("whisper-base").precisions)
    for found in report.values():
        rate = found["character_error_rate"]
        assert rate["found"] <= rate["source"] + rate["allowed_rise"]


def test_languages_are_detected_and_english_is_letter_perfect(
    recognizer: Recognizer, clips: dict[str, Clip]
) -> None:
    found = recognizer.recognize([clip.audio for clip in clips.values()], [None] * 3, [None] * 3)
    assert [one.language for one in found] == [clip.language for clip in clips.values()]
    english = found[[clip.language for clip in clips.values()].index("en")].text
    said = "".join(char for char in english.lower() if char.isalpha() or char == " ")
    assert said == clips["librispeech-1995-1837-0001"].text


def test_silence_says_nothing(recognizer: Recognizer) -> None:
    noise = (np.random.default_rng(0).standard_normal(3 * RATE) * 0.005).astype(np.float32)
    for found in recognizer.recognize([np.zeros(3 * RATE, np.float32), noise], [None] * 2, [None] * 2):
        assert (found.text, found.words) == ("", ())
        assert found.no_speech_probability > 0.6


def test_a_prompt_sets_the_style(recognizer: Recognizer, clips: dict[str, Clip]) -> None:
    clip = clips["aishell-mid"]
    [found] = recognizer.recognize([clip.audio], ["zh"], ["以下是普通话的句子。"])
    assert "大学生利用漏洞免费吃肯德基" in found.text


def test_words_are_timed_as_ctranslate2_times_them(
    bundle: Bundle, source: Path, recipe: CardRecipe, clips: dict[str, Clip]
) -> None:
    model = ctranslate2.models.Whisper(str(source), compute_type="float32", intra_threads=2)
    tokenizer = recipe.own("_tokenizer")(source)
    recognizer = load(bundle, "fp32")
    off = []
    for clip in clips.values():
        [found] = recognizer.recognize([clip.audio], [clip.language], [None])
        words = [word for word in found.words if word.text.strip()]
        tokens = tokenizer.encode(" " + found.text if clip.language == "en" else found.text)
        padded = np.zeros(LONGEST_S * RATE, np.float32)
        padded[: len(clip.audio)] = clip.audio
        features = ctranslate2.StorageView.from_array(recipe.own("_log_mel")(padded)[None])
        start = tokenizer.begin(clip.language)[:-1]
        [aligned] = model.align(features, start, [tokens], len(clip.audio) // 160)
        rows, columns = np.array(aligned.alignments).T
        starts = columns[np.flatnonzero(np.diff(rows, prepend=-1))] * FRAME_S
        edges = np.cumsum([0, *(count for _, count in tokenizer.words(tokens, clip.language))])[:-1]
        off += [min(abs(word.start - starts[edges])) for word in words]
    assert np.mean(np.array(off) <= 0.06) > 0.9
