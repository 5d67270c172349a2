"""`verbose_json`: OpenAI's `TranscriptionVerbose`, with words and segments."""

from __future__ import annotations

import zlib
from typing import Any

from serving.apps.subtitles.languages import LANGUAGES
from serving.apps.subtitles.transcript import Segment, Transcript


def body(transcript: Transcript, *, words: bool, segments: bool) -> dict[str, Any]:
    """The object, ready for JSON. The language is a name in English, as OpenAI gives it."""
    found: dict[str, Any] = {
        "task": "transcribe",
        "language": LANGUAGES.get(transcript.language, transcript.language),
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
    }
    if words:
        found["words"] = [
            {"word": word.text.strip(), "start": round(word.start, 3), "end": round(word.end, 3)}
            for word in transcript.words
        ]
    if segments:
        found["segments"] = [_segment(number, item) for number, item in enumerate(transcript.segments)]
    return found


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    """One segment. Its tokens stay inside the recogniser: the list is there because clients ask for it."""
    text = segment.text.encode()
    return {
        "id": number,
        "seek": round(segment.start * 100),
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": segment.avg_logprob,
        # As Whisper: how repetitive a text is.
        "compression_ratio": round(len(text) / len(zlib.compress(text)), 3),
        "no_speech_prob": segment.no_speech_probability,
    }
