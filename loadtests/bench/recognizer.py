"""The bare recogniser against faster-whisper, in one process: what hearing costs before it is served.

Same weights (Whisper base), int8, as many threads, word timestamps on both sides, one request at a time; a
request is one clip, or four clips as one batch. faster-whisper decodes greedily, as headend does, and by its
default with five beams.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from faster_whisper import WhisperModel

from loadtests.bench import compare, report
from loadtests.bench.machine import Watch
from loadtests.bench.speech import Clip
from models.bundle import Bundle
from models.whisper.recognizer import LONGEST_S, Recognizer

BATCHES = (1, 4)
Hear = Callable[[Sequence[Clip]], list[str]]


def run(bundle: Bundle, source: Path, clips: Sequence[Clip], out: Path, *, rounds: int = 5) -> None:
    """Measure and publish `recognizer.json` in `out`; `source` holds the CTranslate2 model."""
    threads = os.cpu_count() or 1
    graphs = bundle.graph("encoder", "int8"), bundle.graph("decoder", "int8")
    ours = Recognizer(*graphs, bundle.path / "files", threads=threads)
    theirs = WhisperModel(str(source), device="cpu", compute_type="int8", cpu_threads=threads)
    segments = [clip for clip in clips if clip.seconds <= LONGEST_S]
    own = {os.getpid()}
    watch = Watch.start(own)
    figures = {}
    for batch in BATCHES:
        variants = {
            "headend": partial(_cycle, segments, batch, partial(_headend, ours)),
            "faster-whisper": partial(_cycle, segments, batch, partial(_faster_whisper, theirs, 1)),
            "faster-whisper, 5 beams": partial(_cycle, segments, batch, partial(_faster_whisper, theirs, 5)),
        }
        found = compare.run(variants, in_flight=1, rounds=rounds, requests=len(segments), own=own)
        report.console.print(report.latency_table(f"{batch} at a time", found, found[1]))
        figures[f"batch_{batch}"] = {
            each.name: {**each.as_dict(), "ratio": each.ratio(found[1], lambda turn: turn.wall)}
            for each in found
        }
    report.publish("recognizer", out, watch.stop(), figures)


def _cycle(clips: Sequence[Clip], batch: int, hear: Hear) -> compare.Call:
    """Requests of `batch` clips each, every clip in turn; each turn hears the same ones."""
    order = itertools.cycle(clips)
    return lambda: hear([next(order) for _ in range(batch)])


def _headend(recognizer: Recognizer, clips: Sequence[Clip]) -> list[str]:
    nothing = [None] * len(clips)
    return [one.text for one in recognizer.recognize([clip.audio for clip in clips], nothing, nothing)]


def _faster_whisper(model: WhisperModel, beams: int, clips: Sequence[Clip]) -> list[str]:
    texts = []
    for clip in clips:
        segments, _ = model.transcribe(
            clip.audio, beam_size=beams, word_timestamps=True, condition_on_previous_text=False
        )
        texts.append("".join(segment.text for segment in segments))
    return texts
