"""Scripts, joints, languages and subtitle files."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.apps.errors import AppError
from serving.apps.subtitles import verbose
from serving.apps.subtitles.cues import Cue
from serving.apps.subtitles.formats import FORMATS, GENERATED
from serving.apps.subtitles.languages import LANGUAGES, code_of
from serving.apps.subtitles.text import Script, in_script
from serving.apps.subtitles.transcript import Segment, Transcript, Word, joint

CUES = (Cue(0.48, 3.12, ("广州市房地产", "中介协会分析，")), Cue(3661.2, 3663.0, ("a <b> & --> c",)))


def written(texts: list[str], script: Script) -> list[str]:
    return [word.text for word in in_script([Word(text, 0, 1) for text in texts], script)]


def test_script_of_chinese() -> None:
    traditional = ["臺灣", "後來", "發現", "頭", "髮"]
    assert written(traditional, "simplified") == ["台湾", "后来", "发现", "头", "发"]
    assert written(traditional, "as-is") == traditional
    # Which character is right depends on the neighbours, here in another word.
    assert written(["头", "发", "发", "现"], "traditional") == ["頭", "髮", "發", "現"]


@given(st.lists(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x9FFF), max_size=4), max_size=8))
def test_script_keeps_words_apart(texts: list[str]) -> None:
    assert len(written(texts, "simplified")) == len(texts)


def test_joint() -> None:
    assert joint("你好。", "再见") == joint("", "a") == joint("a", "") == ""
    assert joint("one.", "Two") == joint("你好", "ok") == joint("一", " two") == " "


def segment(text: str, start: float, language: str = "en") -> Segment:
    words = tuple(Word(f" {word}", start, start + 1) for word in text.split())
    return Segment(start, start + 1, words, language, -0.2, 0.01)


def test_transcript_joins_segments() -> None:
    transcript = Transcript((segment("Hello there.", 0), segment("再见", 2, "zh"), segment("a b c", 4)), 5.0)
    assert transcript.text == "Hello there. 再见 a b c"
    assert transcript.language == "en"
    assert "".join(word.text for word in transcript.words).strip() == transcript.text
    assert Transcript((), 5.0).language == ""


def test_verbose_json_has_what_was_asked() -> None:
    transcript = Transcript((segment("Hello there.", 1),), 5.0)
    body = verbose.body(transcript, words=True, segments=False)
    assert body["language"] == "english"
    assert body["words"][1] == {"word": "there.", "start": 1, "end": 2}
    assert "segments" not in body
    (found,) = verbose.body(transcript, words=False, segments=True)["segments"]
    assert found["text"] == "Hello there."
    assert json.dumps(body)


@pytest.mark.parametrize(
    ("given", "code"),
    [("zh", "zh"), ("zh-CN", "zh"), ("ZH_tw", "zh"), ("English", "en"), (" mandarin", "zh")],
)
def test_language_codes(given: str, code: str) -> None:
    assert code_of(given) == code


def test_unknown_language_says_what_would_be_right() -> None:
    assert len(LANGUAGES) == 99
    with pytest.raises(AppError, match="ISO 639-1") as caught:
        code_of("klingon")
    assert (caught.value.status, caught.value.param) == (400, "language")


def test_srt() -> None:
    assert FORMATS["srt"].render(CUES, "zh") == (
        "1\n00:00:00,480 --> 00:00:03,120\n广州市房地产\n中介协会分析，\n\n"
        "2\n01:01:01,200 --> 01:01:03,000\na <b> & --> c\n\n"
    )


def test_vtt_escapes_and_says_that_it_is_generated() -> None:
    text = FORMATS["vtt"].render(CUES, "zh")
    assert text.startswith("WEBVTT\n\n")
    assert GENERATED in text
    assert "01:01:01.200 --> 01:01:03.000\na &lt;b&gt; &amp; --&gt; c\n" in text


def test_ttml_is_imsc_and_says_that_it_is_generated() -> None:
    from ttconv.imsc import reader

    text = FORMATS["ttml"].render(CUES, "zh")
    assert GENERATED in text
    assert 'ttp:contentProfiles="http://www.w3.org/ns/ttml/profile/imsc1.1/text"' in text
    document = reader.to_model(ElementTree.ElementTree(ElementTree.fromstring(text.encode())))
    assert document.get_lang() == "zh"
    (division,) = document.get_body()
    paragraphs = list(division)
    assert [float(p.get_begin()) for p in paragraphs] == [0.48, 3661.2]
    assert [float(p.get_end()) for p in paragraphs] == [3.12, 3663.0]


@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_heard_is_a_whole_file(kind: str) -> None:
    text = FORMATS[kind].render((), "")
    if kind == "ttml":
        ElementTree.fromstring(text.encode())
    assert text == "" if kind == "srt" else GENERATED in text
