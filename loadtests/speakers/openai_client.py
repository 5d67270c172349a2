"""Apps through the `openai` package."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from typing import Any

import openai

from loadtests.campaign import Work
from loadtests.inputs import Payload
from loadtests.inputs.judging import Found
from loadtests.speakers.asking import (
    Answer,
    answered,
    dialled,
    failed,
    guarded,
    judge_app,
    of_app,
    of_status,
    url_of,
)
from serving import credential, trust
from serving.fleet import CLASS_HEADER, AppName


class OpenAiSpeaker:
    """`audio.transcriptions` for subtitles, `moderations` for a review."""

    def __init__(self, work: Work, address: str) -> None:
        """Raises `UsageError` when the app does not take the work's input."""
        if work.app is None:
            raise TypeError(f"work `{work.name}` asks no app")
        self._app: AppName = work.app
        self._turns = of_app(work.app, work.input)
        url, secure = url_of(address), dialled(address)[1]
        # Reading the machine's authorities takes 20 ms a speaker, where nobody asks for them.
        context = trust.client_context() if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._client = openai.OpenAI(
            base_url=f"{url}/v1",
            api_key=credential.own_key() or "unused",
            max_retries=0,
            timeout=work.timeout_s,
            default_headers={CLASS_HEADER: work.class_},
            http_client=openai.DefaultHttpxClient(trust_env=False, verify=context),
        )

    def ask(self) -> Answer:
        """One call of the client's."""
        payload = self._turns.next()
        try:
            answer = self._transcribe(payload) if self._app == "subtitles" else self._moderate(payload)
        except openai.APITimeoutError as error:
            return failed("timeout", str(error))
        except openai.APIConnectionError as error:
            return failed("connection", f"{error} {error.__cause__ or ''}".strip())
        except openai.APIStatusError as error:
            detail = f"HTTP {error.status_code}: {error.response.text}"
            return failed(of_status(error.status_code), detail, error.response.headers)

        def judge() -> Found:
            read: Mapping[str, Any] = answer.parse().to_dict(warnings=False)
            return judge_app(self._app, read, payload)

        return answered(guarded(judge), answer.headers)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _transcribe(self, payload: Payload) -> Any:
        return self._client.audio.transcriptions.with_raw_response.create(
            model="subtitles",
            file=(payload.name, payload.content, payload.media_type),
            response_format="verbose_json",
            timestamp_granularities=["word", "segment"],
        )

    def _moderate(self, payload: Payload) -> Any:
        return self._client.moderations.with_raw_response.create(model="review", input=moderated(payload))


def moderated(payload: Payload) -> Any:
    """The `input` of a moderation: a text, or a picture as a data URL."""
    if payload.media_type == "text/plain":
        return payload.content.decode()
    content = base64.b64encode(payload.content).decode("ascii")
    return [
        {"type": "image_url", "image_url": {"url": f"data:{payload.media_type};base64,{content}"}},
    ]
