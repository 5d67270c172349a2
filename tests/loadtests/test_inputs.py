"""What is sent is real and known; right answers pass the checks, wrong ones do not."""

from __future__ import annotations

import io
import subprocess
import sys
import wave
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image

from loadtests import inputs
from loadtests.inputs import Payload, judging, tensors
from loadtests.inputs.tensors import Question, questions
from models.catalog_index import CATALOG
from models.errors import UsageError
from models.whisper import recognizer
from serving.apps.review import verdict
from serving.apps.review.policy_file import PolicyFile

Tensors = dict[str, np.ndarray[Any, Any]]


@pytest.mark.parametrize("name", inputs.names())
def test_every_input_has_what_its_kind_needs(name: str) -> None:
    found = inputs.get(name)
    assert found.name == name
    assert found.title
    for payload in found.payloads:
        assert payload.content
        match found.kind:
            case "speech":
                with wave.open(io.BytesIO(payload.content)) as file:
                    assert (file.getframerate(), file.getnchannels()) == (16_000, 1)
                assert payload.media_type == "audio/wav"
                assert payload.text
                assert payload.language in ("zh", "en")
            case "picture" | "text-line":
                with Image.open(io.BytesIO(payload.content)) as image:
                    assert Image.MIME[image.format or ""] == payload.media_type
            case "text":
                assert payload.content.decode() == payload.text


def test_names_are_labels_and_unknown_ones_are_refused() -> None:
    assert "mandarin-news" in inputs.names()
    with pytest.raises(UsageError, match="there is no input `mandarin`") as caught:
        inputs.get("mandarin")
    assert "mandarin-news" in caught.value.hint


def test_the_parent_process_stays_unpatched() -> None:
    """Neither arrivals nor inputs nor their checks may bring locust or gevent in."""
    code = (
        "import sys; from loadtests import arrivals, campaign, inputs, speakers, tally;"
        "speakers.check(campaign.find('smoke'));"
        "sys.exit(bool({'gevent', 'locust', 'grpc', 'geventhttpclient', 'openai'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


class TestSpeech:
    PAYLOAD = inputs.get("mandarin-news").payloads[0]

    def answer(self, **changes: Any) -> dict[str, Any]:
        items = [{"start": 0.2, "end": 2.0}, {"start": 2.0, "end": 4.9}]
        base = {"text": self.PAYLOAD.text, "duration": 4.99, "words": items, "segments": items[:1]}
        return base | changes

    def test_the_transcript_is_right(self) -> None:
        found = judging.subtitles(self.answer(), self.PAYLOAD)
        assert (found.problem, found.edits, found.characters) == ("", 0, len(self.PAYLOAD.text))

    def test_signs_case_and_script_do_not_matter(self) -> None:
        assert judging.spoken("大學生利用漏洞免費吃肯德基獲刑。", self.PAYLOAD).edits == 0
        english = inputs.get("english-reading").payloads[0]
        assert judging.spoken(english.text.upper() + "!", english).edits == 0

    def test_few_errors_are_counted(self) -> None:
        found = judging.spoken(self.PAYLOAD.text.replace("肯", "啃"), self.PAYLOAD)
        assert (found.problem, found.edits) == ("", 1)

    @pytest.mark.parametrize("heard", ["", "谢谢观看", "广州市房地产中介协会分析"])
    def test_other_words_are_wrong(self, heard: str) -> None:
        found = judging.subtitles(self.answer(text=heard), self.PAYLOAD)
        assert "heard" in found.problem
        assert found.edits > 0

    @pytest.mark.parametrize(
        "words",
        [
            [],
            [{"start": 2, "end": 1}],
            [{"start": 3, "end": 4}, {"start": 1, "end": 2}],
            [{"start": 1, "end": 99}],
        ],
    )
    def test_times_must_follow_each_other_within_the_clip(self, words: list[dict[str, float]]) -> None:
        assert "times of the words" in judging.subtitles(self.answer(words=words), self.PAYLOAD).problem


def moderation(payload: Payload, *, flagged: bool, found: set[str], policy: str = "") -> dict[str, Any]:
    lines = [{"text": line} for line in payload.lines]
    return {
        "results": [
            {
                "flagged": flagged,
                "categories": {"violence": False} | dict.fromkeys(found, True),
                "headend": {
                    "policy": {"name": policy or judging.PACKAGED_POLICY},
                    "evidence": {"images": [{"looked_at": [{"lines": lines}]}]},
                },
            }
        ]
    }


class TestReview:
    @pytest.mark.parametrize("name", ["clean-texts", "unwanted-texts", "captions", "photographs"])
    def test_what_is_known_of_an_input_is_right(self, name: str) -> None:
        for payload in inputs.get(name).payloads:
            answer = moderation(payload, flagged=bool(payload.findings), found=set(payload.findings))
            assert judging.review(answer, payload).problem == ""

    @pytest.mark.parametrize("name", ["clean-texts", "unwanted-texts"])
    def test_the_opposite_is_wrong_under_the_packaged_policy_only(self, name: str) -> None:
        for payload in inputs.get(name).payloads:
            answer = moderation(payload, flagged=not payload.findings, found=set())
            assert "was found to be" in judging.review(answer, payload).problem
            other = moderation(payload, flagged=not payload.findings, found=set(), policy="house-rules")
            assert judging.review(other, payload).problem == ""

    def test_a_missing_category_is_wrong(self) -> None:
        payload = inputs.get("unwanted-texts").payloads[-1]
        assert len(payload.findings) == 2
        answer = moderation(payload, flagged=True, found={"gambling-advertising"})
        assert "contact-solicitation" in judging.review(answer, payload).problem

    @pytest.mark.parametrize("name", ["clean-texts", "unwanted-texts"])
    def test_the_app_itself_judges_the_texts_so(self, name: str) -> None:
        rules = PolicyFile().current()
        for payload in inputs.get(name).payloads:
            result = verdict.judge(rules, [verdict.Text(0, payload.text)], [])
            answer = {"results": [result.model_dump(mode="json", by_alias=True)]}
            assert judging.review(answer, payload).problem == ""

    def test_a_line_that_was_not_read_is_wrong(self) -> None:
        payload = inputs.get("captions").payloads[0]
        unread = Payload(payload.name, payload.content, payload.media_type, payload.lines[:1])
        answer = moderation(unread, flagged=False, found=set())
        assert "was not read" in judging.review(answer, payload).problem


def right(model: str, asked: Question, name: str, number: int) -> Tensors:
    """A right answer made by hand."""
    rows = next(iter(asked.tensors.values()))
    match model:
        case "ppocr-cls":
            batch = len(rows)
            turned = [(row + number) % 2 for row in range(batch)]
            return {"save_infer_model/scale_0.tmp_1": np.eye(2, dtype=np.float32)[turned]}
        case "open-nsfw":
            return {"outputs": np.tile(np.array([0.9, 0.1], np.float32), (len(rows), 1))}
        case "ppocr-det":
            has_text = bool(inputs.get(name).payloads[number].lines)
            return {"sigmoid_0.tmp_0": np.full((1, 1, *rows.shape[2:]), 0.9 * has_text, np.float32)}
        case "silero-vad":
            state = np.zeros((1, 1, 128), np.float32)
            return {"speech_probs": np.full(len(rows), 0.8, np.float32), "hn": state, "cn": state}
    raise AssertionError(model)


@pytest.mark.parametrize(
    ("model", "name", "batch"),
    [
        ("ppocr-cls", "text-lines", 1),
        ("ppocr-cls", "text-lines", 5),
        ("open-nsfw", "photographs", 3),
        ("ppocr-det", "captions", 1),
        ("ppocr-det", "photographs", 1),
        ("silero-vad", "mandarin-news", 1),
    ],
)
class TestTensors:
    def test_a_right_answer_passes(self, model: str, name: str, batch: int) -> None:
        for number, asked in enumerate(questions(model, name, batch)):
            assert asked.judge(right(model, asked, name, number)).problem == ""

    def test_a_wrong_one_does_not(self, model: str, name: str, batch: int) -> None:
        asked = questions(model, name, batch)[0]
        output, good = next(iter(right(model, asked, name, 0).items()))
        rest = right(model, asked, name, 0)
        for bad, says in (
            (good[..., :-1], "shape"),
            (good[None], "shape"),
            (good.astype(np.float64), "float64, not FP32"),
            (good * np.nan, "finite"),
            (-good[..., ::-1] if model == "silero-vad" else good * 0 + (good.max() < 0.5), ""),
        ):
            # A window fewer keeps a varying shape: the check of the values finds it.
            problem = asked.judge({**rest, output: bad}).problem
            assert problem
            if model not in ("silero-vad", "ppocr-det"):
                assert says in problem
        assert "there is no output" in asked.judge({"other": good}).problem


def ctc(classes: list[int], columns: int) -> np.ndarray[Any, Any]:
    """One line as a recogniser writes it: each class twice, a blank after it."""
    path = [each for number in classes for each in (number, number, 0)]
    path += [0] * (columns - len(path))
    return np.eye(6625, dtype=np.float32)[path]


def test_lines_are_read() -> None:
    payloads = inputs.get("text-lines").payloads
    columns = 3 * max(len(payload.text) for payload in payloads)
    asked = questions("ppocr-rec", "text-lines", 2)[0]
    table = tensors._classes()
    written = [[table[character] for character in payload.text] for payload in payloads]
    output = "softmax_11.tmp_0"
    assert asked.judge({output: np.stack([ctc(line, columns) for line in written[:2]])}).problem == ""
    mixed_up = asked.judge({output: np.stack([ctc(line, columns) for line in written[1::-1]])})
    assert "was read wrongly" in mixed_up.problem
    assert "miss 1" in asked.judge({output: np.zeros((2, columns, 6625), np.float32)}).problem


def test_speech_for_the_recogniser_itself() -> None:
    (asked,) = questions("whisper-base", "mandarin-news", 2)
    assert asked.tensors["audio"].shape == (2, 79_872)
    text = inputs.get("mandarin-news").payloads[0].text.encode()

    def answer(*texts: bytes) -> Mapping[str, Any]:
        rows = len(texts)
        column = np.array([[text] for text in texts], np.object_)
        floats = np.ones((rows, 1), np.float32)
        return {
            "text": column,
            "language": column,
            "words": column,
            "word_times": np.ones((rows, 1, 2), np.float32),
            "word_probabilities": floats,
            "avg_logprob": floats,
            "no_speech_probability": floats,
        }

    found = asked.judge(answer(text, text))
    assert (found.problem, found.edits, found.characters) == ("", 0, 30)
    assert "heard" in asked.judge(answer(text, b"")).problem


def test_speech_that_is_too_long_for_the_recogniser_is_left_to_the_app() -> None:
    with pytest.raises(UsageError, match="longer than the 30 s") as caught:
        questions("whisper-base", "mandarin-minute", 1)
    assert "subtitles" in caught.value.hint


def test_the_longest_speech_is_what_the_recogniser_says() -> None:
    assert tensors.LONGEST_S == recognizer.LONGEST_S


def test_random_tensors_follow_the_card() -> None:
    asked = questions("ppocr-rec", "random", 3)
    assert len(asked) > 1
    assert asked[0].tensors["x"].shape == (3, 3, 48, 320)
    assert not np.array_equal(asked[0].tensors["x"], asked[1].tensors["x"])
    assert asked[0].judge({"softmax_11.tmp_0": np.zeros((3, 40, 6625), np.float32)}).problem == ""
    assert "shape" in asked[0].judge({"softmax_11.tmp_0": np.zeros((1, 40, 6625), np.float32)}).problem


def test_rows_take_turns() -> None:
    first, _, second, _ = questions("ppocr-cls", "text-lines", 2)[:4]
    lines = [asked.tensors["x"] for asked in (first, second)]
    assert lines[0].shape == (2, 3, 48, 192)
    assert not np.array_equal(*lines)


def test_every_catalog_model_can_be_asked() -> None:
    for path in CATALOG.glob("*/card.yaml"):
        fitting = []
        for name in inputs.names():
            try:
                fitting += [name] if questions(path.parent.name, name, 1) else []
            except UsageError:
                continue
        assert set(fitting) - {"random"}, path.parent.name
