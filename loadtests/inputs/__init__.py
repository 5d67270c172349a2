"""What is sent: real clips, pictures and texts by name, with what is known of them, so that answers can be
checked.

Files come from the models' catalog, whose README says where they are from and on what terms they may be
used.
"""

from __future__ import annotations

import csv
import io
import mimetypes
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from models.catalog_index import CATALOG
from models.errors import UsageError
from models.recordings import speech

Kind = Literal["speech", "picture", "text-line", "text", "random", "recorded"]
_PAUSE_S = 0.8
_CLIPS = CATALOG / "whisper-base" / "clips"
_PAGES = CATALOG / "ppocr-det" / "cases"
_PHOTOGRAPHS = CATALOG / "open-nsfw" / "cases"
_LINES = CATALOG / "ppocr-rec" / "cases"


@dataclass(frozen=True)
class Payload:
    """One thing to send."""

    name: str
    content: bytes
    """A file as it is, or a text in UTF-8."""
    media_type: str
    lines: tuple[str, ...] = ()
    """What is said or written in it."""
    language: str = ""
    """Speech: ISO 639-1."""
    findings: frozenset[str] = frozenset()
    """Categories that the packaged review policy finds in it."""

    @property
    def text(self) -> str:
        """All of `lines`."""
        return " ".join(self.lines)


@dataclass(frozen=True)
class Input:
    """Payloads that take turns; what they all are decides which apps and models take them."""

    name: str
    kind: Kind
    title: str
    payloads: tuple[Payload, ...]


def names() -> list[str]:
    """All inputs, sorted."""
    return sorted(_MAKERS)


@cache
def get(name: str) -> Input:
    """The input of this name. Raises `UsageError`."""
    if name not in _MAKERS:
        raise UsageError(f"there is no input `{name}`", hint=f"Known: {', '.join(names())}.")
    kind, title, make = _MAKERS[name]
    return Input(name, kind, title, tuple(make()))


def _clips(*files: str) -> list[Payload]:
    with (_CLIPS / "transcripts.tsv").open(encoding="utf-8", newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file, delimiter="\t")}
    return [_file(_CLIPS / file, (rows[file]["text"],), language=rows[file]["language"]) for file in files]


def _minute() -> list[Payload]:
    """Mandarin clips with pauses between, which a site has to part again."""
    turns = [*_clips("aishell-mid.wav", "aishell-BAC009S0724W0121.wav")] * 5
    pause = np.zeros(round(_PAUSE_S * 16_000), np.float32)
    parts = [part for turn in turns for part in (speech(_CLIPS / turn.name), pause)]
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16_000)
        out.writeframes((np.concatenate(parts) * 32768).astype("<i2").tobytes())
    text = tuple(turn.text for turn in turns)
    return [Payload("mandarin-minute.wav", file.getvalue(), "audio/wav", text, language="zh")]


def _lines() -> list[Payload]:
    """The recorded lines whose direction PP-OCR is sure of."""
    with (_LINES / "transcripts.tsv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["file"] != "page-3.png"]
    return [_file(_LINES / row["file"], (row["text"],)) for row in rows]


def _captions() -> list[Payload]:
    page = ("Region-based segmentation", "Let us first determine markers of the coins and the")
    caption = ("今晚八点", "新闻联播", "广州市房地产中介协会分析")
    return [_file(_PAGES / "caption.jpg", caption), _file(_PAGES / "page.png", page)]


def _photographs() -> list[Payload]:
    return [_file(path) for path in sorted(_PHOTOGRAPHS.iterdir())]


def _texts(which: str) -> list[Payload]:
    written = yaml.safe_load(resources.files(__name__).joinpath("texts.yaml").read_text("utf-8"))
    return [
        Payload(
            f"{which} {number}",
            entry["text"].encode(),
            "text/plain",
            (entry["text"],),
            findings=frozenset(entry.get("findings", ())),
        )
        for number, entry in enumerate(written[which], 1)
    ]


def _file(path: Path, lines: tuple[str, ...] = (), *, language: str = "") -> Payload:
    media_type = "audio/wav" if path.suffix == ".wav" else mimetypes.guess_type(path.name)[0]
    return Payload(path.name, path.read_bytes(), media_type or "", lines, language)


_MAKERS: dict[str, tuple[Kind, str, Callable[[], Sequence[Payload]]]] = {
    "mandarin-short": ("speech", "4 s of read Mandarin", lambda: _clips("aishell-BAC009S0724W0121.wav")),
    "mandarin-news": ("speech", "5 s of Mandarin news", lambda: _clips("aishell-mid.wav")),
    "mandarin-minute": ("speech", "54 s of Mandarin with pauses", _minute),
    "english-reading": ("speech", "9 s of read English", lambda: _clips("librispeech-1995-1837-0001.wav")),
    "captions": ("picture", "a picture with Chinese captions, and a printed page", _captions),
    "photographs": ("picture", "4 photographs without text", _photographs),
    "text-lines": ("text-line", "6 lines of printed and of on-screen text", _lines),
    "clean-texts": ("text", "5 texts that the packaged policy lets pass", lambda: _texts("clean")),
    "unwanted-texts": ("text", "5 texts that it finds terms in", lambda: _texts("unwanted")),
    "random": ("random", "random tensors of the shapes that a model's card gives as examples", lambda: ()),
    "recorded": (
        "recorded",
        "the cases in a model's bundle, with the answers that its source gave",
        lambda: (),
    ),
}
