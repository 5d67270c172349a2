"""Speech to send, and how to send it."""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt

from models.recipe import Clip as Recorded

RATE = 16_000
PAUSE_S = 0.8


@dataclass(frozen=True)
class Clip:
    """A clip as a file."""

    name: str
    language: str
    text: str
    audio: npt.NDArray[np.float32]
    wav: bytes

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.audio) / RATE


def clips(recorded: list[Recorded]) -> list[Clip]:
    """The clips at hand, and all those of one language in a row, three times over, with pauses between."""
    single = [_clip(one.name, one.language, one.text, one.audio) for one in recorded]
    mandarin = [one for one in recorded if one.language == "zh"] * 3
    pause = np.zeros(int(PAUSE_S * RATE), np.float32)
    joined = np.concatenate([part for one in mandarin for part in (one.audio, pause)])
    return [*single, _clip("mandarin-joined", "zh", "".join(one.text for one in mandarin), joined)]


def _clip(name: str, language: str, text: str, audio: npt.NDArray[np.float32]) -> Clip:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes((np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes())
    return Clip(Path(name).stem, language, text, audio, file.getvalue())


def transcribe(client: httpx.Client, door: str, clip: Clip) -> str:
    """Ask the subtitles app at `door` with word timestamps, as for a subtitle file; returns the text."""
    response = client.post(
        f"http://{door}/v1/audio/transcriptions",
        data={
            "model": "subtitles",
            "response_format": "verbose_json",
            "timestamp_granularities[]": ["word", "segment"],
        },
        files={"file": (f"{clip.name}.wav", clip.wav)},
    )
    response.raise_for_status()
    return str(response.json()["text"])
