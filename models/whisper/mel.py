"""Whisper's log-mel spectrogram: as a part of the encoder's graph.

Constants and steps as in `whisper/audio.py` of openai/whisper: 16 kHz, Hann window of 400 samples, a step of
160, 80 bands on Slaney's mel scale (M. Slaney, "Auditory Toolbox", 1998), base-10 logarithm of the power, at
most 8 below the clip's greatest, then `(x + 4) / 4`.

The Fourier transform is a convolution with windowed sines and cosines, which every runtime has; TensorRT has
no `STFT`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from models.whisper.graph import Network, Value

RATE = 16_000
"""Samples per second."""
WINDOW = 400
STEP = 160
BANDS = 80
_BINS = WINDOW // 2 + 1


def log_mel(net: Network, audio: Value) -> Value:
    """`audio` FP32 `[B, samples]` as FP32 `[B, 80, samples // 160]`."""
    op = net.op
    half = WINDOW // 2
    padded = op.Pad(op.Unsqueeze(audio, [1]), [0, 0, half, 0, 0, half], mode="reflect")
    # Three dimensions throughout: with one channel in, the convolution is a matrix product over the windows.
    spectrum = op.Conv(padded, net.constant("fourier", fourier()), strides=[STEP])
    frames = op.Slice(spectrum, [0], [-1], [2])  # the reference drops the last frame
    parts = op.Reshape(frames, [0, 2, _BINS, -1])
    power = op.ReduceSumSquare(parts, [1], keepdims=0)
    # A convolution of width 1, not a MatMul: a quantiser of MatMuls must not touch powers that span 1e10.
    mel = op.Conv(power, net.constant("filters", filters()[:, :, None]))
    log = op.Mul(op.Log(op.Max(mel, 1e-10)), 1 / math.log(10))
    floor = op.Sub(op.ReduceMax(log, [1, 2], keepdims=1), 8.0)
    return op.Mul(op.Add(op.Max(log, floor), 4.0), 0.25)


def fourier() -> npt.NDArray[np.float32]:
    """Windowed cosines, then sines: `[2 * 201, 1, 400]`."""
    time = np.arange(WINDOW)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * time / WINDOW)
    angle = 2 * np.pi * np.outer(np.arange(_BINS), time) / WINDOW
    basis = np.concatenate([np.cos(angle), np.sin(angle)]) * hann
    return np.asarray(basis[:, None, :], np.float32)


def filters() -> npt.NDArray[np.float32]:
    """Triangles of equal area on the mel scale: `[80, 201]`."""
    bins = np.linspace(0, RATE / 2, _BINS)
    corners = _hertz(np.linspace(0, _mel(RATE / 2), BANDS + 2))
    widths = np.diff(corners)
    slopes = corners[:, None] - bins
    rising, falling = -slopes[:-2] / widths[:-1, None], slopes[2:] / widths[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    area = 2 / (corners[2:] - corners[:-2])
    return np.asarray(triangles * area[:, None], np.float32)


# Slaney's scale: 3 mel per 200 Hz up to 1 kHz (15 mel), then 27 mel per factor 6.4.
_LINEAR = 200 / 3
_LOG_FROM = 1000.0
_LOG_STEP = math.log(6.4) / 27


def _mel(hertz: float) -> float:
    """For frequencies above 1 kHz."""
    return _LOG_FROM / _LINEAR + math.log(hertz / _LOG_FROM) / _LOG_STEP


def _hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = mel - _LOG_FROM / _LINEAR
    return np.where(above < 0, mel * _LINEAR, _LOG_FROM * np.exp(_LOG_STEP * above))
