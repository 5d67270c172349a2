"""The graphs of a tiny Whisper: the spectrogram, the cache, and rows that share a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from models.whisper import mel

FRAMES = 40


def session(path: Path) -> ort.InferenceSession:
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def cross_of(tiny: Path, audio: np.ndarray) -> dict[str, np.ndarray]:
    encoder = session(tiny / "encoder.onnx")
    names = [item.name for item in encoder.get_outputs()]
    found = dict(zip(names, encoder.run(names, {"audio": audio}), strict=True))
    return {name: value for name, value in found.items() if name.startswith("cross_")}


def sound(rows: int, frames: int = FRAMES) -> np.ndarray:
    return (np.random.default_rng(3).standard_normal((rows, frames * 320)) * 0.1).astype(np.float32)


def decode(
    decoder: ort.InferenceSession,
    tokens: list[list[int]],
    cross: dict[str, np.ndarray],
    past: dict[str, np.ndarray] | None = None,
    padding: list[int] | None = None,
    frames: list[int] | None = None,
) -> dict[str, np.ndarray]:
    rows = len(tokens)
    empty = {
        item.name: np.zeros((rows, item.shape[1], 0, item.shape[3]), np.float32)
        for item in decoder.get_inputs()
        if item.name.startswith("past_")
    }
    feeds = {
        "tokens": np.array(tokens, np.int64),
        "padding": np.array(padding or [0] * rows, np.int64),
        "frames": np.array(frames or [FRAMES] * rows, np.int64),
        **(past or empty),
        **cross,
    }
    names = [item.name for item in decoder.get_outputs()]
    return dict(zip(names, decoder.run(names, feeds), strict=True))


def past_of(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"past_{name}": value for name, value in outputs.items() if name.startswith(("key_", "value_"))}


@pytest.fixture(scope="module")
def decoder(tiny: Path) -> ort.InferenceSession:
    return session(tiny / "decoder.onnx")


def test_the_filters_are_those_of_faster_whisper() -> None:
    theirs = pytest.importorskip("faster_whisper.feature_extractor").FeatureExtractor(feature_size=80)
    np.testing.assert_allclose(mel.filters(), theirs.mel_filters, atol=1e-7)


def test_a_longer_batch_mate_changes_nothing_in_the_encoder(tiny: Path) -> None:
    audio = sound(2)
    together = cross_of(tiny, audio)
    for row in (0, 1):
        alone = cross_of(tiny, audio[row : row + 1])
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][row : row + 1], value, atol=1e-4)


def test_token_by_token_equals_all_at_once(tiny: Path, decoder: ort.InferenceSession) -> None:
    cross, tokens = cross_of(tiny, sound(1)), [257, 258, 260, 65, 66, 67]
    once = decode(decoder, [tokens], cross)
    past, attention = None, []
    for token in tokens:
        step = decode(decoder, [[token]], cross, past)
        past = past_of(step)
        attention.append(step["alignment"])
    np.testing.assert_allclose(step["logprobs"], once["logprobs"], atol=1e-4)
    np.testing.assert_allclose(np.concatenate(attention, axis=2), once["alignment"], atol=1e-5)
    assert once["alignment"].shape == (1, 2, len(tokens), FRAMES)
    np.testing.assert_allclose(once["alignment"].sum(-1), 1.0, atol=1e-5)


def test_filling_up_in_front_changes_nothing(tiny: Path, decoder: ort.InferenceSession) -> None:
    cross = cross_of(tiny, sound(1))
    tokens = [257, 258, 65]
    alone = decode(decoder, [tokens], cross)
    filled = decode(decoder, [[256, 256, *tokens]], cross, padding=[2])
    np.testing.assert_allclose(filled["logprobs"], alone["logprobs"], atol=1e-4)
    again = decode(decoder, [[66]], cross, past_of(filled), padding=[2])
    plain = decode(decoder, [[66]], cross, past_of(alone))
    np.testing.assert_allclose(again["logprobs"], plain["logprobs"], atol=1e-4)


def test_frames_beyond_a_rows_own_are_not_heard(tiny: Path, decoder: ort.InferenceSession) -> None:
    cross = cross_of(tiny, sound(1))
    alone = decode(decoder, [[257, 65]], cross)
    noise = {
        name: np.concatenate([value, np.full_like(value, 7.0)], axis=3 if "key" in name else 2)
        for name, value in cross.items()
    }
    masked = decode(decoder, [[257, 65]], noise, frames=[FRAMES])
    np.testing.assert_allclose(masked["logprobs"], alone["logprobs"], atol=1e-4)
    assert not masked["alignment"][..., FRAMES:].any()
