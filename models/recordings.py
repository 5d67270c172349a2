"""Recorded pictures and clips beside the cards, turned into the tensors that models take."""

from __future__ import annotations

import wave
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.recipe import Array

Floats = npt.NDArray[np.float32]
_PICTURES = (".jpg", ".png")


def pictures(directory: Path) -> Iterable[tuple[str, Image.Image]]:
    """Name and RGB picture of every picture in a directory, sorted by name."""
    for path in sorted(directory.iterdir()):
        if path.suffix in _PICTURES:
            with Image.open(path) as image:
                yield path.stem, image.convert("RGB")


def picture(path: Path) -> Image.Image:
    """One RGB picture."""
    with Image.open(path) as image:
        return image.convert("RGB")


def bgr(image: Image.Image) -> Floats:
    """Float32 `[height, width, 3]`, blue first, 0 to 255: the order in which these networks were trained."""
    return np.ascontiguousarray(np.asarray(image, np.float32)[:, :, ::-1])


def paddle(image: Image.Image) -> Floats:
    """PaddleOCR's input: float32 `[3, height, width]`, BGR, `(x / 255 - 0.5) / 0.5`."""
    return np.ascontiguousarray(((bgr(image) / 255 - 0.5) / 0.5).transpose(2, 0, 1))


def text_line(image: Image.Image, width: int | None = None) -> Floats:
    """A text line for PaddleOCR, `[3, 48, width]`: height 48, as wide as it then is, padded or squeezed to
    `width`.
    """
    scaled = max(1, round(image.width * 48 / image.height))
    fitted = paddle(image.resize((min(scaled, width or scaled), 48), Image.Resampling.BILINEAR))
    pad = (width or fitted.shape[2]) - fitted.shape[2]
    return np.pad(fitted, ((0, 0), (0, 0), (0, pad)))


def speech(path: Path) -> Floats:
    """A 16 kHz mono 16-bit WAV file as float32 -1 to 1."""
    with wave.open(str(path)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (16_000, 1, 2):
            raise ValueError(f"{path} is not 16 kHz mono 16-bit")
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return samples.astype(np.float32) / 32768


def windows(audio: Floats, samples: int = 512, context: int = 64) -> Array:
    """Silero's rows, `[T, context + samples]`: windows preceded by the end of the one before, zeros at the
    start.
    """
    count = -(-audio.size // samples)
    padded = np.zeros(context + count * samples, np.float32)
    padded[context : context + audio.size] = audio
    return np.stack([padded[i * samples : i * samples + context + samples] for i in range(count)])
