"""The parity gate and the recognisers' metric."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import hypothesis.extra.numpy as hnp
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.card import Tolerance
from models.catalog_index import load_card
from models.gate import _Texts
from models.metric import error_rate, plain
from models.parity import ParityError, compare
from models.recipe import Case

CASE = Case("model", "case", {})
ARRAYS = hnp.arrays(
    np.float32,
    hnp.array_shapes(max_dims=3, max_side=6),
    elements=st.floats(-1e6, 1e6, width=32),
)


@given(ARRAYS)
def test_the_same_is_equal_at_no_tolerance(array: npt.NDArray[np.float32]) -> None:
    result = compare(CASE, "y", array, array.copy(), Tolerance(absolute=0))
    assert result.passed
    assert result.max_absolute == result.outliers == 0


@given(ARRAYS, st.floats(1e-3, 1e3), st.randoms())
def test_one_element_too_far_is_found_and_shown(
    array: npt.NDArray[np.float32], off: float, random: np.random.Generator
) -> None:
    index = tuple(random.randrange(size) for size in array.shape)  # type: ignore[attr-defined]
    found = array.astype(np.float64)
    found[index] += off
    result = compare(CASE, "y", found, array.astype(np.float64), Tolerance(absolute=off / 2))
    assert not result.passed
    assert result.worst == index
    assert result.found == found[index]
    assert result.expected == array[index]
    assert result.outliers == pytest.approx(1 / array.size)


def test_the_worst_is_the_one_furthest_beyond_what_is_allowed() -> None:
    expected = np.array([1000.0, 1.0])
    result = compare(
        CASE, "y", expected + np.array([5.0, 0.5]), expected, Tolerance(absolute=0.1, relative=0.01)
    )
    assert result.worst == (1,)
    assert result.max_absolute == 5.0
    assert result.outliers == 0.5


def test_outliers_are_allowed_up_to_their_share_but_never_nan() -> None:
    expected = np.zeros(100)
    found = expected.copy()
    found[7] = 3
    assert compare(CASE, "y", found, expected, Tolerance(absolute=0.1, outliers=0.01)).passed
    found[8] = 3
    assert not compare(CASE, "y", found, expected, Tolerance(absolute=0.1, outliers=0.01)).passed
    for bad in (np.nan, np.inf):
        found = expected.copy()
        found[7] = bad
        assert not compare(CASE, "y", found, expected, Tolerance(absolute=0.1, outliers=0.01)).passed
        assert compare(CASE, "y", found, found.copy(), Tolerance(absolute=0)).passed


def test_another_shape_or_type_fails_in_words() -> None:
    zeros = np.zeros((2, 3), np.float32)
    result = compare(CASE, "y", zeros.T, zeros, Tolerance(absolute=1))
    assert not result.passed
    assert "is float32 [3, 2], expected float32 [2, 3]" in result.sentence(Tolerance(absolute=1))
    assert not compare(CASE, "y", zeros.astype(np.float64), zeros, Tolerance(absolute=1)).passed


def test_no_elements_are_equal() -> None:
    assert compare(CASE, "y", np.zeros((0, 3)), np.zeros((0, 3)), Tolerance(absolute=0)).passed


def test_the_error_rate_is_edits_over_characters() -> None:
    assert error_rate(["广州市房地产"], ["广州市房地产"]) == 0
    assert error_rate(["广洲房地产"], ["广州市房地产"]) == pytest.approx(2 / 6)
    assert error_rate(["abcd", ""], ["abcd", "efgh"]) == 0.5
    assert error_rate(["x" * 8], ["abcd"]) == 2.0
    with pytest.raises(ValueError, match="no characters"):
        error_rate(["a"], ["。"])


def test_punctuation_width_and_case_do_not_count() -> None:
    assert plain("Ｈeadend，2 号。") == "headend2号"


@given(st.lists(st.text(min_size=1), min_size=1))
def test_a_text_against_itself_has_no_errors(texts: list[str]) -> None:
    if any(plain(text) for text in texts):
        assert error_rate(texts, texts) == 0


@dataclass(frozen=True)
class _Said:
    name: str
    text: str


def test_a_risen_error_rate_fails_and_shows_the_texts() -> None:
    hooks = {
        "clips": lambda: [_Said("news", "今晚八点新闻联播"), _Said("score", "三比二")],
        "reference_texts": lambda source, clips: ["今晚八点新闻联播", "三比二"],
        "texts": lambda bundle, precision, clips: ["今晚八点新闻联拨", "三比二"],
    }
    recipe = SimpleNamespace(own=hooks.get)
    texts = _Texts(recipe, Path(), lambda detail, fraction: None)  # type: ignore[arg-type]
    card = load_card("ppocr-rec")
    with pytest.raises(ParityError, match=r"(?s)9\.09%.*0\.00%.*news: `今晚八点新闻联拨`, the source"):
        texts.rate(card, "fp16", Path())
    parity = card.parity.model_copy(update={"max_error_rate_rise": {"fp16": 0.1}})
    rate = texts.rate(card.model_copy(update={"parity": parity}), "fp16", Path())
    assert rate["found"] == pytest.approx(1 / 11, abs=1e-4)
