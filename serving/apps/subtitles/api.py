"""`POST /v1/audio/transcriptions`, as OpenAI's (https://platform.openai.com/docs/api-reference/audio).

Beyond it: `response_format=ttml`, and the form fields `script` and `frame_rate`. `temperature` is checked and
has no effect: the recogniser always takes the likeliest token.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Form, Request, Response, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, Field

from serving.apps.application import models, new_app, onward, while_connected
from serving.apps.config import AppsConfig
from serving.apps.errors import AppError, UnknownModelError
from serving.apps.models_client import ModelsClient
from serving.apps.onward import Onward
from serving.apps.subtitles import verbose
from serving.apps.subtitles.cues import DEFAULT_FRAME_RATE, Rules, plan
from serving.apps.subtitles.formats import FORMATS
from serving.apps.subtitles.languages import code_of
from serving.apps.subtitles.recognition import MODEL, Options, Recognition
from serving.apps.subtitles.text import Script
from serving.apps.subtitles.transcript import Segment, Transcript, joint
from serving.fleet import ALIASES

APP: Literal["subtitles"] = "subtitles"
_MODELS = [APP, MODEL, *(alias for alias, app in ALIASES.items() if app == APP)]


class Fields(BaseModel):
    """The form."""

    file: UploadFile
    model: str
    language: str = ""
    prompt: str = ""
    response_format: Literal["json", "text", "srt", "vtt", "ttml", "verbose_json"] = "json"
    timestamp_granularities: list[Literal["word", "segment"]] = Field([], alias="timestamp_granularities[]")
    temperature: float = Field(0.0, ge=0, le=1)
    stream: bool = False
    script: Script = "simplified"
    frame_rate: float = Field(DEFAULT_FRAME_RATE, ge=10, le=120)

    def check(self) -> None:
        """Raise `AppError` for what cannot be answered, or not together."""
        if self.model not in _MODELS:
            raise UnknownModelError(self.model, _MODELS)
        if self.timestamp_granularities and self.response_format != "verbose_json":
            raise AppError(
                "`timestamp_granularities[]` needs `response_format=verbose_json`.",
                param="timestamp_granularities[]",
            )
        if self.stream and self.response_format not in ("json", "text"):
            raise AppError(
                "`stream` gives text as it is heard: use `response_format=json` or `text` with it.",
                param="stream",
            )

    def options(self) -> Options:
        """What the recognition needs. Raises `AppError`."""
        return Options(code_of(self.language) if self.language else None, self.prompt, self.script)


def create_app(config: AppsConfig) -> FastAPI:
    """The subtitles app."""
    app = new_app(APP, config)

    @app.post("/v1/audio/transcriptions")
    async def transcribe(
        request: Request,
        fields: Annotated[Fields, Form()],
        client: Annotated[ModelsClient, Depends(models)],
        said: Annotated[Onward, Depends(onward)],
    ) -> Response:
        fields.check()
        recognition = Recognition(client, fields.file.file, fields.options(), said)
        if fields.stream:
            return await while_connected(request, _stream(recognition))
        transcript = await while_connected(request, _gather(recognition))
        return await _answer(transcript, fields)

    return app


async def _gather(recognition: Recognition) -> Transcript:
    segments = tuple([segment async for segment in recognition.segments()])
    return Transcript(segments, recognition.duration)


async def _answer(transcript: Transcript, fields: Fields) -> Response:
    match fields.response_format:
        case "json":
            return JSONResponse({"text": transcript.text, "usage": _usage(transcript.duration)})
        case "text":
            return PlainTextResponse(transcript.text + "\n")
        case "verbose_json":
            granularities = fields.timestamp_granularities or ["segment"]
            body = verbose.body(
                transcript, words="word" in granularities, segments="segment" in granularities
            )
            return JSONResponse(body | {"usage": _usage(transcript.duration)})
    # An hour of speech takes a second to lay out.
    kind = FORMATS[fields.response_format]
    rules = Rules.of(transcript.language, fields.frame_rate)
    cues = await asyncio.to_thread(plan, transcript.words, rules)
    text = await asyncio.to_thread(kind.render, cues, transcript.language)
    return Response(text, media_type=kind.media_type)


def _usage(seconds: float) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(seconds)}


async def _stream(recognition: Recognition) -> Response:
    """Server-sent events. What fails before the first one is answered with its own status."""
    segments = recognition.segments()
    first = await anext(segments, None)
    return StreamingResponse(_events(recognition, first, segments), media_type="text/event-stream")


async def _events(
    recognition: Recognition, first: Segment | None, rest: AsyncIterator[Segment]
) -> AsyncIterator[str]:
    text = ""
    try:
        if first is not None:
            text = first.text
            yield _event({"type": "transcript.text.delta", "delta": text})
        async for segment in rest:
            delta = joint(text, segment.text) + segment.text
            text += delta
            yield _event({"type": "transcript.text.delta", "delta": delta})
        usage = _usage(recognition.duration)
        yield _event({"type": "transcript.text.done", "text": text, "usage": usage})
    except AppError as error:
        yield _event(error.body())


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
