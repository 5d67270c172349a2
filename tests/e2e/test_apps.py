"""The apps through both front doors, as their users call them: with the `openai` client, unchanged."""

from __future__ import annotations

import asyncio
import csv
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import av
import httpx
import numpy as np
import openai
import psutil
import pytest

from serving.apps.subtitles import audio
from tests.serving.apps.media import media

pytestmark = pytest.mark.e2e

CLIPS = Path(__file__).parents[2] / "models" / "catalog" / "whisper-base" / "clips"
SITES = ["hub", "edge"]


def transcripts() -> dict[str, dict[str, str]]:
    with (CLIPS / "transcripts.tsv").open(encoding="utf-8") as file:
        return {row["file"]: row for row in csv.DictReader(file, delimiter="\t")}


SPOKEN = transcripts()
MANDARIN, ENGLISH = "aishell-mid.wav", "librispeech-1995-1837-0001.wav"


@pytest.fixture
def client(fleet: Any) -> openai.OpenAI:
    return at(fleet, "hub")


def at(fleet: Any, site: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{fleet.url(site)}/v1", api_key="none", max_retries=0, timeout=120)


def ask(client: openai.OpenAI, file: bytes | Path, **fields: Any) -> Any:
    data = file.read_bytes() if isinstance(file, Path) else file
    return client.audio.transcriptions.create(**{"model": "subtitles", "file": ("clip", data), **fields})


def bare(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


def error_rate(heard: str, said: str) -> float:
    """Character error rate: edits over the transcript's length."""
    heard, said = bare(heard), bare(said)
    row = list(range(len(said) + 1))
    for i, a in enumerate(heard, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(said, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1] / len(said)


def sound(*parts: str | float) -> np.ndarray:
    """Clips, by name, and silences, in seconds, one after the other."""
    pieces = []
    for part in parts:
        if isinstance(part, str):
            with (CLIPS / part).open("rb") as file:
                pieces += list(audio.blocks(file))
        else:
            pieces.append(np.zeros(int(part * audio.RATE), np.float32))
    return np.concatenate(pieces)


def wav(samples: np.ndarray) -> bytes:
    return media("wav", "pcm_s16le", sound=samples, rate=audio.RATE)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("clip", SPOKEN)
def test_human_speech_comes_back_as_text(fleet: Any, site: str, clip: str) -> None:
    heard = ask(at(fleet, site), CLIPS / clip, model="whisper-1")
    # Whisper base's own errors; a wrong path or a cut sound would be far above.
    assert error_rate(heard.text, SPOKEN[clip]["text"]) <= 0.25
    assert heard.usage.seconds >= 4


@pytest.mark.parametrize("site", SITES)
def test_models_are_listed(fleet: Any, site: str) -> None:
    names = {model.id for model in at(fleet, site).models.list()}
    assert names >= {"subtitles", "review", "whisper-1", "omni-moderation-latest", "whisper-base"}
    assert at(fleet, site).models.retrieve("subtitles").object == "model"


def test_a_picture_and_a_text_are_reviewed(client: openai.OpenAI) -> None:
    answer = client.moderations.create(model="omni-moderation-latest", input="你好，世界")
    assert answer.results[0].flagged is False


def test_video_gives_the_same_text_as_its_sound(client: openai.OpenAI) -> None:
    samples = sound(MANDARIN)
    film = media("mp4", "aac", sound=samples, rate=audio.RATE, video="mpeg4")
    assert ask(client, film).text == ask(client, wav(samples)).text


def test_every_format(client: openai.OpenAI) -> None:
    clip = CLIPS / ENGLISH
    text = ask(client, clip, response_format="text").strip()
    srt = ask(client, clip, response_format="srt")
    assert srt.startswith("1\n00:00:0")
    vtt = ask(client, clip, response_format="vtt")
    assert vtt.startswith("WEBVTT\n")
    ttml = ElementTree.fromstring(ask(client, clip, response_format="ttml"))
    spans = [span.text for span in ttml.iter("{http://www.w3.org/ns/ttml}span")]
    assert bare("".join(spans)) == bare(text)
    lines = [line for line in srt.splitlines() if line and not line.isdigit() and "-->" not in line]
    assert " ".join(lines) == text
    assert all(len(line) <= 42 for line in lines)


def test_words_have_times(client: openai.OpenAI) -> None:
    heard = ask(
        client, CLIPS / ENGLISH, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert heard.language == "english"
    assert heard.duration == pytest.approx(8.73, abs=0.01)
    edges = [edge for word in heard.words for edge in (word.start, word.end)]
    assert edges == sorted(edges)
    assert 0 <= edges[0] < edges[-1] <= heard.duration
    assert bare("".join(word.word for word in heard.words)) == bare(heard.text)
    assert bare("".join(segment.text for segment in heard.segments)) == bare(heard.text)


def test_chinese_is_written_as_asked(client: openai.OpenAI) -> None:
    clip = CLIPS / MANDARIN
    simplified, traditional = (
        ask(client, clip, extra_body=extra).text for extra in (None, {"script": "traditional"})
    )
    assert "学生" in simplified
    assert "學生" in traditional
    assert len(simplified) == len(traditional)


def test_long_speech_streams_in_order(client: openai.OpenAI) -> None:
    parts = [MANDARIN, 1.5, "aishell-BAC009S0724W0121.wav", 40.0, MANDARIN, 1.5]
    clip = wav(sound(*parts))
    whole = ask(client, clip, language="zh")
    events = list(ask(client, clip, language="zh", stream=True))
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert len(deltas) >= 3
    assert "".join(deltas) == events[-1].text == whole.text
    said = "".join(SPOKEN[part]["text"] for part in parts if isinstance(part, str))
    assert error_rate(whole.text, said) <= 0.25
    verbose = ask(client, clip, language="zh", response_format="verbose_json")
    starts = [segment.start for segment in verbose.segments]
    assert starts == sorted(starts)
    assert starts[-1] == pytest.approx(4.992 + 1.5 + 4.281 + 40, abs=1)


def test_four_at_once_are_heard_as_one_by_one(fleet: Any) -> None:
    clips = [MANDARIN, ENGLISH, "aishell-BAC009S0724W0121.wav", MANDARIN]
    alone = [ask(at(fleet, "hub"), CLIPS / clip).text for clip in clips]

    async def together() -> list[str]:
        client = openai.AsyncOpenAI(base_url=f"{fleet.url('hub')}/v1", api_key="none", max_retries=0)
        asked = (
            client.audio.transcriptions.create(model="subtitles", file=("clip", (CLIPS / clip).read_bytes()))
            for clip in clips
        )
        return [heard.text for heard in await asyncio.gather(*asked)]

    assert asyncio.run(together()) == alone


def test_silence_is_an_empty_transcript(client: openai.OpenAI) -> None:
    silence = wav(np.zeros(3 * audio.RATE, np.float32))
    assert ask(client, silence).text == ""
    assert ask(client, silence, response_format="srt") == ""
    assert [event.type for event in ask(client, silence, stream=True)] == ["transcript.text.done"]


def without_sound() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        file.mux(stream.encode(None))
    return out.getvalue()


def unknown_codec() -> bytes:
    data = bytearray(wav(sound(MANDARIN)))
    at = data.index(b"fmt ") + 8
    data[at : at + 2] = b"\x99\x77"
    return bytes(data)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"file": ("x", b"")}, 400, "empty_file"),
        ({"file": ("x.mp4", b"not media" * 1000)}, 400, "invalid_file"),
        ({"file": ("x.wav", (CLIPS / MANDARIN).read_bytes()[:30])}, 400, "invalid_file"),
        ({"file": ("x.mp4", without_sound())}, 400, "no_audio_stream"),
        ({"file": ("x.wav", unknown_codec())}, 415, "unsupported_codec"),
        ({"model": "whisper-99"}, 404, "model_not_found"),
        ({"language": "klingon"}, 400, None),
        ({"response_format": "docx"}, 400, None),
        ({"temperature": 7}, 400, None),
    ],
    ids=["empty", "broken", "cut", "no-sound", "codec", "model", "language", "format", "temperature"],
)
def test_bad_input_is_told_what_is_wrong(
    fleet: Any, site: str, stream: bool, fields: dict[str, Any], status: int, code: str | None
) -> None:
    wanted = {"file": ("clip", (CLIPS / MANDARIN).read_bytes()), "model": "subtitles", "stream": stream}
    with pytest.raises(openai.APIStatusError) as caught:
        at(fleet, site).audio.transcriptions.create(**{**wanted, **fields})
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert len(str(caught.value.body["message"])) > 15


def test_a_killed_replica_costs_nobody_an_answer(fleet: Any) -> None:
    clip = (CLIPS / MANDARIN).read_bytes()
    expected = ask(at(fleet, "edge"), clip).text
    stop = threading.Event()

    def steady(site: str) -> list[str]:
        client, heard = at(fleet, site), []
        while not stop.is_set():
            heard.append(ask(client, clip).text)
        return heard

    serve = psutil.Process(fleet.part("hub", "serve")["pid"])
    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(steady, site) for site in SITES]
        time.sleep(3)
        (replica,) = [
            child
            for child in serve.children(recursive=True)
            if "ServeReplica:subtitles" in child.name()
            or "ServeReplica:subtitles" in " ".join(child.cmdline())
        ]
        replica.kill()
        fleet.wait_ready()
        time.sleep(3)
        stop.set()
        answers = [text for each in asking for text in each.result(120)]
    assert len(answers) > 4
    assert set(answers) == {expected}
    assert fleet.part("hub", "serve")["pid"] == serve.pid  # the part itself was not restarted


def test_a_client_that_leaves_stops_its_work(fleet: Any) -> None:
    clip = wav(np.tile(sound(ENGLISH, 0.7), 12))
    url = f"{fleet.url('hub')}/v1/audio/transcriptions"
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, data={"model": "subtitles"}, files={"file": clip}, timeout=0.5)
    assert ask(at(fleet, "hub"), CLIPS / MANDARIN).text  # the others are answered meanwhile
