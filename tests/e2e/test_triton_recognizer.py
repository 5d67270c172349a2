"""Whisper in the real Triton: segments in, words out, joined in batches; a bad one harms nobody else."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc
from triton_process import Triton, fleet_of
from tritonclient.utils import InferenceServerException

from models.store import open_store

pytestmark = [pytest.mark.e2e, pytest.mark.build]

NAME = "whisper-base"
CLIPS = Path(__file__).parents[2] / "models" / "catalog" / NAME / "clips"


@pytest.fixture(scope="module")
def triton(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    one = Triton(tmp_path_factory.mktemp("serving"), fleet_of({NAME: {"precision": "int8"}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADEND_HOME", str(bundles))
        one.write({NAME: open_store().fetch(NAME)})
    try:
        yield one.start([NAME])
    finally:
        one.stop()


def ask(triton: Triton, audio: Any, language: str | bytes = "", prompt: str = "") -> dict[str, Any]:
    """One segment; the answer's tensors without their batch dimension."""
    inputs = [grpc.InferInput("audio", list(audio.shape), "FP32")]
    inputs[0].set_data_from_numpy(audio)
    for name, text in (("language", language), ("prompt", prompt)):
        inputs.append(grpc.InferInput(name, [1, 1], "BYTES"))
        inputs[-1].set_data_from_numpy(np.array([[text]], np.object_))
    with grpc.InferenceServerClient(triton.grpc) as client:
        answer = client.infer(NAME, inputs)
    return {output.name: answer.as_numpy(output.name)[0] for output in answer.get_response().outputs}


def speech(name: str) -> Any:
    """A recorded clip: FP32 `[1, samples]`."""
    with wave.open(str(CLIPS / f"{name}.wav")) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return (samples.astype(np.float32) / 32768)[None]


ENGLISH, MANDARIN = "librispeech-1995-1837-0001", "aishell-mid"


def test_hears_words_and_when_they_were_said(triton: Triton) -> None:
    audio = speech(ENGLISH)
    heard = ask(triton, audio)
    text = heard["text"][0].decode()
    assert heard["language"][0] == b"en"
    assert "first great sorrow of his life" in text.lower()
    assert b"".join(heard["words"]).decode().split() == text.split()
    times = heard["word_times"]
    assert times.shape == (len(heard["words"]), 2)
    assert (times[:, 0] <= times[:, 1]).all()
    assert (np.diff(times[:, 0]) >= 0).all()
    assert 0 <= times.min() <= times.max() <= audio.size / 16_000
    assert ((heard["word_probabilities"] > 0) & (heard["word_probabilities"] <= 1)).all()
    assert heard["no_speech_probability"][0] < 0.5


def test_hears_mandarin(triton: Triton) -> None:
    heard = ask(triton, speech(MANDARIN), "zh")
    assert heard["language"][0] == b"zh"
    assert "肯德基" in heard["text"][0].decode()


def test_segments_of_differing_length_are_recognised_as_one_batch(triton: Triton) -> None:
    clips = [speech(ENGLISH), speech(MANDARIN)] * 3
    alone = [ask(triton, clip)["text"][0] for clip in clips[:2]]
    before = _executions(triton)
    with ThreadPoolExecutor(len(clips)) as pool:
        together = [heard["text"][0] for heard in pool.map(lambda clip: ask(triton, clip), clips)]
    assert _executions(triton) - before < len(clips)
    assert together == alone * 3


def _executions(triton: Triton) -> int:
    with grpc.InferenceServerClient(triton.grpc) as client:
        return int(client.get_inference_statistics(NAME).model_stats[0].execution_count)


def test_a_bad_segment_gets_a_sentence_and_its_batch_mates_their_words(triton: Triton) -> None:
    good, seconds = speech(MANDARIN), np.zeros((1, 16_000), np.float32)
    hole = seconds.copy()
    hole[0, 100] = np.nan
    bad: list[tuple[tuple[Any, ...], str]] = [
        ((seconds[:, :0],), "`audio` is empty"),
        ((hole,), "not finite"),
        ((np.zeros((1, 31 * 16_000), np.float32),), "at most 30 s, this one 31.00 s"),
        ((seconds, "klingon"), "unknown language `klingon`"),
        ((seconds, b"\xff"), "`language` is not UTF-8"),
    ]
    with ThreadPoolExecutor(len(bad) + 2) as pool:
        mates = [pool.submit(ask, triton, good, "zh") for _ in range(2)]
        refused = [pool.submit(ask, triton, *arguments) for arguments, _ in bad]
        assert all("肯德基" in mate.result()["text"][0].decode() for mate in mates)
        for answer, (_, sentence) in zip(refused, bad, strict=True):
            with pytest.raises(InferenceServerException, match=sentence) as refusal:
                answer.result()
            assert "INVALID_ARGUMENT" in str(refusal.value.status())


def test_silence_is_answered(triton: Triton) -> None:
    heard = ask(triton, np.zeros((1, 32_000), np.float32), "zh")
    assert heard["no_speech_probability"][0] > 0.5
