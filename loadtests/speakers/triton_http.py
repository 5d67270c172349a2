"""Models through `tritonclient.http`, which runs on gevent by itself."""

from __future__ import annotations

from functools import cache
from typing import Any

from geventhttpclient.response import HTTPParseError
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

from loadtests.campaign import Work
from loadtests.inputs.judging import Found
from loadtests.inputs.tensors import Judge, questions
from loadtests.speakers.asking import (
    Answer,
    Headers,
    Turns,
    answered,
    dialled,
    failed,
    guarded,
    identifying,
    of_status,
)
from loadtests.speakers.tensors import read, written
from serving import trust


class _Client(triton.InferenceServerClient):  # type: ignore[misc]
    """Keeps the last answer, for its headers.

    `tritonclient` gives away no headers of answers; `_post` is the one place that all of them pass, and its
    own work is left to it.
    """

    last: Headers | None = None

    def _post(self, *arguments: Any, **named: Any) -> Any:
        self.last = None
        self.last = super()._post(*arguments, **named)
        return self.last


class TritonHttpSpeaker:
    """`POST /v2/models/NAME/infer` with binary tensors."""

    def __init__(self, work: Work, address: str) -> None:
        """Raises `UsageError` when the model does not take the work's input."""
        self._model, self._headers = work.pool, identifying(work)
        self._turns = _turns(work.pool, work.input, work.batch)
        host, secure = dialled(address)
        self._client = _Client(
            host,
            connection_timeout=work.timeout_s,
            network_timeout=work.timeout_s,
            ssl=secure,
            ssl_options={"ca_certs": trust.authorities()},
        )

    def ask(self) -> Answer:
        """One inference."""
        tensors, judge = self._turns.next()
        try:
            # The client writes into the headers it is given.
            result = self._client.infer(self._model, tensors, headers=dict(self._headers))
        except InferenceServerException as error:
            return failed(of_status(int(error.status())), f"HTTP {error}", self._client.last)
        except TimeoutError as error:
            return failed("timeout", str(error))
        except (OSError, HTTPParseError) as error:
            return failed("connection", repr(error))
        except (KeyError, TypeError, ValueError) as error:
            return answered(Found(f"the answer cannot be read: {error!r}"), self._client.last or {})
        return answered(guarded(lambda: judge(read(result))), self._client.last or {})

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


@cache
def _turns(model: str, name: str, batch: int) -> Turns[tuple[list[Any], Judge]]:
    return Turns([(written(triton, asked.tensors), asked.judge) for asked in questions(model, name, batch)])
