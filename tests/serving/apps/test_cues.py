"""The planner of cues: rules that hold for any words, and what good cues look like."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.apps.subtitles.cues import Cue, Rules, plan
from serving.apps.subtitles.phrases import breaks
from serving.apps.subtitles.transcript import Word

ZH = (
    "广州市房地产中介协会分析，今年前三季度成交量增长百分之十二点五。"
    "专家表示，2026年市场将保持平稳！大学生利用漏洞"
)
EN = (
    "The quick brown fox jumps over the lazy dog, and then it runs away. In 2026 there were 10,000 people at "
    "the show; most stayed until the very end, didn't they? Yes. A well-known (and much loved) tune: "
    "3.5% of all"
)


def spoken(texts: list[str], *, per_second: float, pause: float = 0.0) -> list[Word]:
    """Words at an even pace, with a pause after punctuation."""
    words, at = [], 0.5
    for text in texts:
        end = at + len(text.strip()) / per_second
        words.append(Word(text, at, end))
        at = end + (pause if text[-1] in "，。！,.?;" else 0)
    return words


def chinese(per_second: float = 5, pause: float = 0.3) -> list[Word]:
    return spoken(list(ZH), per_second=per_second, pause=pause)


def english(per_second: float = 15, pause: float = 0.3) -> list[Word]:
    return spoken([f" {word}" for word in EN.split()], per_second=per_second, pause=pause)


@st.composite
def words_and_rules(draw: st.DrawFn) -> tuple[list[Word], Rules]:
    language = draw(st.sampled_from(["zh", "en"]))
    rate = draw(st.sampled_from([24000 / 1001, 25.0, 30.0, 50.0]))
    if language == "zh":
        alphabet = st.sampled_from([*ZH, " GDP", "3.5", "%", "手机 ", "二", "十"])
    else:
        alphabet = st.sampled_from(
            [f" {word}" for word in EN.split()] + ["'s", "-like", " ", " 1 000", "x" * 60]
        )
    texts = draw(st.lists(alphabet, max_size=60))
    words, at = [], draw(st.floats(0, 5))
    for text in texts:
        length = draw(st.sampled_from([0.0, 0.02, 0.1, 0.2, 0.4, 1.0, 9.0]))
        words.append(Word(text, at, at + length))
        at += length + draw(st.sampled_from([0.0, 0.0, 0.0, 0.1, 0.6, 3.0, 20.0]))
    return words, Rules.of(language, rate)


def visible(text: str) -> str:
    return "".join(text.split())


@settings(deadline=None, max_examples=150)
@given(words_and_rules())
def test_any_words(case: tuple[list[Word], Rules]) -> None:
    words, rules = case
    cues = plan(words, rules)
    text = "".join(word.text for word in words)
    shown = "".join(line for cue in cues for line in cue.lines)
    assert visible(shown) == visible(text)  # all of it, in order
    assert plan(words, rules) == cues  # the same every time
    for cue in cues:
        assert 1 <= len(cue.lines) <= 2
        assert all(line and line == line.strip() for line in cue.lines)
        assert max(map(rules.width, cue.lines)) <= rules.columns
        assert 1 / rules.frame_rate - 1e-6 <= cue.end - cue.start <= rules.longest_s + 1e-6
        assert math.isclose(cue.start * rules.frame_rate, round(cue.start * rules.frame_rate), abs_tol=1e-6)
        assert math.isclose(cue.end * rules.frame_rate, round(cue.end * rules.frame_rate), abs_tol=1e-6)
    gap = rules.gap_frames / rules.frame_rate
    for cue, following in itertools.pairwise(cues):
        assert following.start - cue.end >= gap - 1e-6
    for cue, following in itertools.zip_longest(cues, cues[1:]):
        assert _kept_or_no_room(cue, following, rules)


def _kept_or_no_room(cue: Cue, following: Cue | None, rules: Rules) -> bool:
    """Long enough to be read, or as long as there is room."""
    length = cue.end - cue.start
    wanted = max(rules.shortest_s, rules.width(" ".join(cue.lines)) / rules.speed)
    # A line break stands for a space or for nothing.
    if length >= min(wanted, rules.longest_s) - 1.5 / rules.frame_rate - 1 / rules.speed:
        return True
    return following is not None and following.start - cue.end <= (rules.gap_frames + 1) / rules.frame_rate


@settings(deadline=None)
@given(words_and_rules())
def test_no_break_inside_a_word_or_a_number(case: tuple[list[Word], Rules]) -> None:
    words, rules = case
    text = "".join(word.text for word in words)
    allowed = {len(visible(text[:at])) for at in breaks(text)} | {len(visible(text))}
    at = 0
    for line in (line for cue in plan(words, rules) for line in cue.lines):
        at += len(visible(line))
        if at in allowed:
            continue
        before = max((place for place in allowed if place < at), default=0)
        after = min(place for place in allowed if place > at)
        assert rules.width(visible(text)[before:after]) > rules.columns, (
            "only what is wider than a line is cut"
        )


def shown(cues: tuple[Cue, ...]) -> list[tuple[str, ...]]:
    return [cue.lines for cue in cues]


def test_chinese_at_a_normal_pace() -> None:
    assert shown(plan(chinese(), Rules.of("zh"))) == [
        ("广州市房地产中介协会分析，今年前", "三季度成交量增长百分之十二点五。"),
        ("专家表示，2026年市场将保持平稳！", "大学生利用漏洞"),
    ]


def test_english_at_a_normal_pace() -> None:
    assert shown(plan(english(), Rules.of("en"))) == [
        ("The quick brown fox jumps over", "the lazy dog, and then it runs away."),
        ("In 2026 there were 10,000", "people at the show;"),
        ("most stayed until the very end,", "didn't they? Yes."),
        ("A well-known (and much loved) tune:", "3.5% of all"),
    ]


@pytest.mark.parametrize(("words", "language"), [(chinese(), "zh"), (english(), "en")])
def test_speech_at_a_normal_pace_can_be_read(words: list[Word], language: str) -> None:
    rules = Rules.of(language)
    for cue in plan(words, rules):
        assert cue.end - cue.start >= rules.shortest_s - 1e-6
        assert rules.width("".join(cue.lines)) / (cue.end - cue.start) <= rules.speed


def test_too_fast_speech_stays_too_fast_and_whole() -> None:
    rules = Rules.of("zh")
    cues = plan(chinese(per_second=20, pause=0), rules)
    assert "".join(line for cue in cues for line in cue.lines) == ZH
    assert any(rules.width("".join(cue.lines)) / (cue.end - cue.start) > rules.speed for cue in cues)


def test_a_short_word_stays_on_for_the_shortest_time() -> None:
    (cue,) = plan([Word("好", 1.0, 1.2)], Rules.of("zh"))
    assert (cue.start, cue.end) == (1.0, 1.84)  # 5/6 s up to a whole frame


def test_a_word_held_long_ends_after_seven_seconds() -> None:
    (cue,) = plan([Word(" Ohhh", 0.0, 12.0)], Rules.of("en"))
    assert (cue.start, cue.end) == (0.0, 7.0)


def test_no_words_no_cues() -> None:
    assert plan([], Rules.of("zh")) == ()


def pieces(text: str) -> list[str]:
    edges = [0, *sorted(breaks(text)), len(text)]
    return [text[first:last] for first, last in itertools.pairwise(edges)]


def test_where_text_may_be_broken() -> None:
    assert pieces("大学生利用漏洞免费吃肯德基获刑") == [
        "大学生",
        "利用",
        "漏洞",
        "免费",
        "吃",
        "肯德基",
        "获刑",
    ]
    assert pieces("增长百分之十二点五，2026年3.5%。") == ["增长", "百分之十二点五，", "2026年", "3.5%。"]
    assert pieces("他说：“好。”然后走了") == ["他", "说：", "“好。”", "然后", "走", "了"]
    assert pieces("a well-known (and loved) 10 000") == ["a ", "well-known ", "(and ", "loved) ", "10 000"]
    assert pieces("用iPhone拍照") == ["用", "iPhone", "拍照"]
