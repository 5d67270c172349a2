"""Apps and models over bare HTTP, for the highest rates: bodies are made once, and only sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import httpx
from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPParseError
from tritonclient import http as triton

from loadtests.campaign import Work
from loadtests.inputs import Payload
from loadtests.inputs.judging import Found
from loadtests.inputs.tensors import Question, questions
from loadtests.speakers.asking import (
    Answer,
    Headers,
    Turns,
    answered,
    failed,
    guarded,
    identifying,
    judge_app,
    of_app,
    of_status,
    url_of,
)
from loadtests.speakers.openai_client import moderated
from loadtests.speakers.tensors import read, written
from serving import trust
from serving.fleet import AppName

_LENGTH = "inference-header-content-length"
"""Where the JSON ends and the binary tensors begin."""


@dataclass(frozen=True)
class _Request:
    path: str
    headers: dict[str, str]
    body: bytes
    judge: Callable[[bytes, Headers], Found]


class BareHttpSpeaker:
    """Sends ready-made requests over one connection."""

    def __init__(self, work: Work, address: str) -> None:
        """Raises `UsageError` when the app or model does not take the work's input."""
        if work.app:
            self._turns = _of_app(work.app, work.input)
        else:
            self._turns = _of_model(work.pool, work.input, work.batch)
        self._client = HTTPClient.from_url(
            url_of(address),
            headers=identifying(work),
            connection_timeout=work.timeout_s,
            network_timeout=work.timeout_s,
            ssl_options={"ca_certs": trust.authorities()},
        )

    def ask(self) -> Answer:
        """One request."""
        request = self._turns.next()
        try:
            with self._client.post(request.path, request.body, request.headers) as response:
                body = bytes(response.read())
        except TimeoutError as error:
            return failed("timeout", str(error))
        except (OSError, HTTPParseError) as error:
            return failed("connection", repr(error))
        status = response.status_code
        if not 200 <= status < 300:
            return failed(of_status(status), f"HTTP {status}: {body.decode('utf-8', 'replace')}", response)
        return answered(guarded(lambda: request.judge(body, response)), response)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


@cache
def _of_app(app: AppName, name: str) -> Turns[_Request]:
    make = _transcription if app == "subtitles" else _moderation
    return Turns([make(payload) for payload in of_app(app, name)])


def _transcription(payload: Payload) -> _Request:
    form = httpx.Request(
        "POST",
        "http://unused",
        data={
            "model": "subtitles",
            "response_format": "verbose_json",
            "timestamp_granularities[]": ["word", "segment"],
        },
        files={"file": (payload.name, payload.content, payload.media_type)},
    )
    return _Request(
        "/v1/audio/transcriptions",
        {"content-type": form.headers["content-type"]},
        form.read(),
        lambda body, _: judge_app("subtitles", json.loads(body), payload),
    )


def _moderation(payload: Payload) -> _Request:
    return _Request(
        "/v1/moderations",
        {"content-type": "application/json"},
        json.dumps({"model": "review", "input": moderated(payload)}).encode(),
        lambda body, _: judge_app("review", json.loads(body), payload),
    )


@cache
def _of_model(model: str, name: str, batch: int) -> Turns[_Request]:
    return Turns([_inference(model, asked) for asked in questions(model, name, batch)])


def _inference(model: str, asked: Question) -> _Request:
    body, json_size = triton.InferenceServerClient.generate_request_body(written(triton, asked.tensors))

    def judge(body: bytes, headers: Headers) -> Found:
        length = headers.get(_LENGTH, "")
        result = triton.InferenceServerClient.parse_response_body(
            body, header_length=int(length) if length else None
        )
        return asked.judge(read(result))

    return _Request(f"/v2/models/{model}/infer", {_LENGTH: str(json_size)}, body, judge)
