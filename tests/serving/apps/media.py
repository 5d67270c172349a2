"""Media files of many kinds, made with PyAV as they are needed."""

from __future__ import annotations

import io

import av
import numpy as np

TONE_HZ = 440
TONE_S = 2.0


def tone(seconds: float = TONE_S, rate: int = 48_000) -> np.ndarray:
    """FP32 `[samples]`."""
    return (0.3 * np.sin(2 * np.pi * TONE_HZ * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def media(
    container: str,
    codec: str | None,
    *,
    sound: np.ndarray | None = None,
    rate: int = 48_000,
    video: str | None = None,
    delay_s: float = 0.0,
) -> bytes:
    """A file with one audio stream (`sound`, delayed) and, if asked, a small video."""
    out = io.BytesIO()
    sound = tone(rate=rate) if sound is None else sound
    with av.open(out, "w", format=container) as file:
        audio = file.add_stream(codec, rate=rate) if codec else None
        picture = file.add_stream(video, rate=25) if video else None
        if picture:
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
            for number in range(int((delay_s + len(sound) / rate) * 25)):
                image = np.full((48, 64, 3), number % 255, np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts = number
                file.mux(picture.encode(frame))
            file.mux(picture.encode(None))
        if audio:
            frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            frame.sample_rate = rate
            frame.pts = int(delay_s * rate)
            context = audio.codec_context
            resampler = av.AudioResampler(context.format, context.layout, rate)
            for converted in [*resampler.resample(frame), *resampler.resample(None)]:
                file.mux(audio.encode(converted))
            file.mux(audio.encode(None))
    return out.getvalue()
