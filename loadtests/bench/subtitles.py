"""Subtitles: the served app, through everything, against faster-whisper in process.

Same weights (Whisper base), int8, as many threads, greedy decoding, voice activity detection and word
timestamps on both sides, on the same clips. The served app also carries the upload, decoding and the way
through the front door, Ray Serve and Triton. The figure is the ratio of real-time factors (processing time
over the clips' length), below 1 when the served app is faster, one request and four at once.

faster-whisper is measured at its fastest: without hearing a doubtful segment again at higher temperatures
(on one clip here that takes it 19 s), and both segment after segment and with its batched pipeline.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from faster_whisper import BatchedInferencePipeline, WhisperModel
from opencc import OpenCC

from loadtests.bench import compare, report
from loadtests.bench.fleet import BenchSite
from loadtests.bench.machine import Watch
from loadtests.bench.speech import Clip
from loadtests.bench.speech import transcribe as ask
from models.metric import error_rate

IN_FLIGHT = (1, 4)
SERVED, BASE = "headend", "faster-whisper"
BATCH = 8


def run(site: BenchSite, source: Path, clips: Sequence[Clip], out: Path, *, rounds: int = 3) -> None:
    """Measure on `site` and publish `subtitles.json` in `out`; `source` holds the CTranslate2 model."""
    model = WhisperModel(
        str(source), device="cpu", compute_type="int8", cpu_threads=os.cpu_count() or 1, num_workers=1
    )
    hear: dict[str, Callable[[], Callable[[Clip], str]]] = {
        SERVED: partial(_served, site.front_door),
        BASE: lambda: partial(_faster_whisper, model.transcribe),
        f"{BASE}, batched": lambda: partial(
            _faster_whisper, partial(BatchedInferencePipeline(model).transcribe, batch_size=BATCH)
        ),
    }
    variants = {name: partial(_cycle, client, clips) for name, client in hear.items()}
    audio_s = sum(clip.seconds for clip in clips)
    watch = Watch.start(site.pids)
    figures: dict[str, Any] = {
        "clips": {clip.name: clip.seconds for clip in clips},
        "character_error_rate": {name: _errors(client(), clips) for name, client in hear.items()},
    }
    for in_flight in IN_FLIGHT:
        requests = in_flight * len(clips)
        found = compare.run(variants, in_flight=in_flight, rounds=rounds, requests=requests, own=site.pids)
        served, *rivals = found
        report.console.print(report.latency_table(f"{in_flight} at once", found, rivals[0]))
        ratios = {rival.name: served.ratio(rival, lambda turn: turn.wall) for rival in rivals}
        for name, (median, low, high) in ratios.items():
            report.console.print(f"real-time factor over {name}: {median:.2f} ({low:.2f}-{high:.2f})")
        figures[f"at_once_{in_flight}"] = {
            "real_time_factor": {
                each.name: sum(turn.wall for turn in each.turns) / (rounds * in_flight * audio_s)
                for each in found
            },
            "ratios": ratios,
            **{each.name: each.as_dict() for each in found},
        }
    report.publish("subtitles", out, watch.stop(), figures)


def _cycle(client: Callable[[], Callable[[Clip], str]], clips: Sequence[Clip]) -> compare.Call:
    """A worker hears every clip in turn; the call that warms it up hears the first one twice."""
    hear = client()
    order = itertools.chain(clips[:1], itertools.cycle(clips))
    return lambda: hear(next(order))


def _served(door: str) -> Callable[[Clip], str]:
    return partial(ask, httpx.Client(timeout=600, trust_env=False), door)


def _faster_whisper(transcribe: Callable[..., Any], clip: Clip) -> str:
    segments, _ = transcribe(
        clip.audio,
        beam_size=1,
        temperature=0,
        vad_filter=True,
        word_timestamps=True,
        condition_on_previous_text=False,
    )
    return "".join(segment.text for segment in segments)


def _errors(hear: Callable[[Clip], str], clips: Sequence[Clip]) -> float:
    """Character error rate, in Simplified characters: Whisper mixes the scripts."""
    simplified = OpenCC("t2s").convert
    return error_rate([simplified(hear(clip)) for clip in clips], [clip.text for clip in clips])
