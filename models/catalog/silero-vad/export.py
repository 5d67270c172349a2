"""Recorded speech and silence for the voice activity model; its graph is ONNX already."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from models import recordings
from models.recipe import Case


def cases(source: Path, exported: Path) -> Iterator[Case]:
    """A spoken clip, and two seconds of silence after its first second."""
    state = np.zeros((1, 1, 128), np.float32)
    for path in sorted((Path(__file__).parent / "cases").glob("*.wav")):
        audio = recordings.speech(path)
        paused = np.concatenate([audio[:16_000], np.zeros(32_000, np.float32), audio[16_000:]])
        for name, samples in ((path.stem, audio), (f"{path.stem}-paused", paused)):
            yield Case("model", name, {"input": recordings.windows(samples), "h": state, "c": state})
