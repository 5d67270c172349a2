"""Terms are found however they are written, and offsets lead back to the text as it was sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.apps.review.terms import Matcher, fold

CHINESE = "百家乐"
ENGLISH = "online casino"
MATCHER = Matcher({"zh": ([CHINESE, "赌场", "六合彩"], 2), "en": ([ENGLISH, "odds on", "加QQ"], 2)})


def found(text: str) -> list[tuple[str, str, int]]:
    """Term, what stands there and signs inserted of each match."""
    return [(match.term, match.text, match.inserted) for match in MATCHER.find(text)]


@pytest.mark.parametrize(
    ("text", "written", "inserted"),
    [
        ("来玩百家乐吧", "百家乐", 0),
        ("來玩百家樂吧", "百家樂", 0),
        ("百 家*乐", "百 家*乐", 2),
        ("百\u200b家\ufe0f乐", "百\u200b家\ufe0f乐", 0),
        ("Online CASINO!", "Online CASINO", 0),
        ("ｏｎｌｉｎｅ　ｃａｓｉｎｏ", "ｏｎｌｉｎｅ　ｃａｓｉｎｏ", 0),
        ("onlinecasino", "onlinecasino", 0),
        ("ónlíne casino", "ónlíne casino", 0),
        ("o\u0301nline casino", "o\u0301nline casino", 0),
        ("o.n.l.i.n.e c-a-s-i-n-o", "o.n.l.i.n.e c-a-s-i-n-o", 10),
        ("加qq12345", "加qq", 0),
    ],
)
def test_it_is_found_however_written(text: str, written: str, inserted: int) -> None:
    assert [(match[1], match[2]) for match in found(text)] == [(written, inserted)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "。，！",
        "good son",  # a part of words is not a word
        "online casinos",
        "百 … … … 家乐",  # too far apart
        "家百乐",
    ],
)
def test_it_is_not_found_where_it_is_not(text: str) -> None:
    assert found(text) == []


def test_terms_within_terms_and_in_several_lists_are_all_found() -> None:
    matcher = Matcher({"a": (["网络赌场", "赌场"], 2), "b": (["赌场", "賭場"], 0)})
    names = [(match.list, match.term, match.start, match.end) for match in matcher.find("在网络赌场")]
    assert names == [("a", "网络赌场", 1, 5), ("a", "赌场", 3, 5), ("b", "赌场", 3, 5), ("b", "賭場", 3, 5)]
    assert [match.list for match in matcher.find("赌 场")] == ["a"]


def test_a_term_without_letters_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`!!` of list `zh` has no letter"):
        Matcher({"zh": (["!!"], 1)})


def test_no_terms_find_nothing() -> None:
    assert Matcher({}).find("百家乐") == []


WRITINGS = {
    "百": "百", "家": "家", "乐": "乐樂", "赌": "赌賭", "场": "场場", "六": "六", "合": "合", "彩": "彩",
    **{c: c + c.upper() + chr(ord(c) + 0xFEE0) for c in "onlinecas"},
}  # fmt: skip
SEPARATORS = ["", "", " ", "*", "。", "\u3000", "-_", "\u200b", "\u0301"]


@st.composite
def disguised(draw: st.DrawFn) -> tuple[str, str]:
    """A term and a way to write it."""
    term = draw(st.sampled_from([CHINESE, "赌场", "六合彩", ENGLISH]))
    letters = [c for c in term if c != " "]
    written = draw(st.sampled_from(WRITINGS[letters[0]]))
    for letter in letters[1:]:
        written += draw(st.sampled_from(SEPARATORS)) + draw(st.sampled_from(WRITINGS[letter]))
    return term, written


@given(
    disguised(), st.text("今天气很好，。 \n𠀀é", max_size=20), st.text("今天气很好，。 \n𠀀é", max_size=20)
)
def test_offsets_are_those_of_the_text_sent(case: tuple[str, str], before: str, after: str) -> None:
    term, written = case
    before, after = before.rstrip("é"), after.lstrip("é")
    text = before + written + after
    spans = {(match.term, match.start, match.end) for match in MATCHER.find(text)}
    assert (term, len(before), len(before) + len(written)) in spans


@given(st.text())
def test_every_folded_character_comes_from_its_offset(text: str) -> None:
    folded = fold(text)
    assert len(folded.text) == len(folded.offsets) == len(folded.places)
    assert all(c in fold(text[i]).text for c, i in zip(folded.text, folded.offsets, strict=True))
    assert (folded.offsets[1:] >= folded.offsets[:-1]).all()


@given(st.text("百家乐樂赌場场六合彩 *onlinecasino\u200b", max_size=60))
def test_what_is_found_folds_to_the_term(text: str) -> None:
    for match in MATCHER.find(text):
        assert match.text == text[match.start : match.end]
        assert fold(match.text).text == fold(match.term).text
