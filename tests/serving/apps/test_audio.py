"""Decoding: every kind of file in, the same sound out; and what is wrong with those that cannot be."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from serving.apps.errors import AppError
from serving.apps.subtitles import audio
from tests.serving.apps.media import TONE_HZ, TONE_S, media, tone


def decode(data: bytes) -> np.ndarray:
    return np.concatenate(list(audio.blocks(io.BytesIO(data))))


def heard_hz(sound: np.ndarray) -> float:
    middle = sound[len(sound) // 4 : -len(sound) // 4]
    return float(np.argmax(np.abs(np.fft.rfft(middle * np.hanning(len(middle))))) * audio.RATE / len(middle))


@pytest.mark.parametrize(
    ("container", "codec", "rate", "video"),
    [
        ("wav", "pcm_s16le", 8_000, None),
        ("wav", "pcm_f32le", 48_000, None),
        ("wav", "pcm_s24le", 96_000, None),
        ("mp3", "mp3", 44_100, None),
        ("flac", "flac", 44_100, None),
        ("ogg", "libopus", 48_000, None),
        ("adts", "aac", 44_100, None),
        ("mp4", "aac", 44_100, "mpeg4"),
        ("mov", "pcm_s16le", 48_000, "mpeg4"),
        ("matroska", "ac3", 48_000, "mpeg4"),
        ("webm", "libopus", 48_000, "libvpx"),
        ("mpegts", "mp2", 48_000, "mpeg2video"),
        ("avi", "mp3", 44_100, "mpeg4"),
    ],
)
def test_any_container_and_codec(container: str, codec: str, rate: int, video: str | None) -> None:
    sound = decode(media(container, codec, rate=rate, video=video))
    assert sound.dtype == np.float32
    assert len(sound) / audio.RATE == pytest.approx(TONE_S, abs=0.12)
    assert heard_hz(sound) == pytest.approx(TONE_HZ, abs=2)
    assert 0.2 < np.abs(sound[len(sound) // 4 : -len(sound) // 4]).max() < 0.45


def test_sound_that_starts_after_the_picture_keeps_its_place() -> None:
    sound = decode(media("matroska", "ac3", video="mpeg4", delay_s=1.5))
    loud = np.flatnonzero(np.abs(sound) > 0.05)
    assert loud[0] / audio.RATE == pytest.approx(1.5, abs=0.05)


def test_blocks_have_their_size_and_lose_nothing() -> None:
    data = media("wav", "pcm_f32le", sound=tone(3.0, audio.RATE), rate=audio.RATE)
    parts = list(audio.blocks(io.BytesIO(data), size=10_000))
    assert [len(part) for part in parts] == [10_000] * 4 + [8_000]
    np.testing.assert_allclose(np.concatenate(parts), tone(3.0, audio.RATE), atol=1e-6)


def test_not_a_number_becomes_silence() -> None:
    sound = tone(1.0, audio.RATE)
    sound[100:200] = np.nan
    decoded = decode(media("wav", "pcm_f32le", sound=sound, rate=audio.RATE))
    assert np.isfinite(decoded).all()


def test_a_file_cut_off_gives_what_is_there() -> None:
    whole = media("mp3", "mp3")
    assert 0.3 * TONE_S < len(decode(whole[: len(whole) // 2])) / audio.RATE < 0.7 * TONE_S


def unknown_codec() -> bytes:
    data = bytearray(media("wav", "pcm_s16le"))
    at = data.index(b"fmt ") + 8
    data[at : at + 2] = b"\x99\x77"
    return bytes(data)


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "png")
    return out.getvalue()


WAV = media("wav", "pcm_s16le")
MP4 = media("mp4", "aac", video="mpeg4")


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"", 400, "empty_file"),
        (b"not media at all\n" * 100, 400, "invalid_file"),
        (np.random.default_rng(1).bytes(50_000), 400, "invalid_file"),
        (WAV[:20], 400, "invalid_file"),
        (MP4[: len(MP4) // 2], 400, "invalid_file"),  # its index was at the end
        (media("mp4", None, video="mpeg4"), 400, "no_audio_stream"),
        (picture(), 400, "no_audio_stream"),
        (unknown_codec(), 415, "unsupported_codec"),
    ],
    ids=["empty", "text", "noise", "header-cut", "mp4-cut", "video-only", "picture", "codec"],
)
def test_what_cannot_be_decoded_says_why(data: bytes, status: int, code: str) -> None:
    with pytest.raises(AppError) as caught:
        decode(data)
    assert (caught.value.status, caught.value.code, caught.value.param) == (status, code, "file")


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:5,\nfile://{0}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{0}'\n",
    ],
)
def test_an_upload_cannot_open_files_of_this_machine(playlist: str, tmp_path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(WAV)
    with pytest.raises(AppError) as caught:
        decode(playlist.format(secret).encode())
    assert caught.value.status == 400


def test_longer_than_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "LONGEST_S", 1)
    for data in (WAV, media("adts", "aac")):  # with its length in the header, and without
        with pytest.raises(AppError) as caught:
            decode(data)
        assert caught.value.status == 413
