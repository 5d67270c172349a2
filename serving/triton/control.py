"""The control API of one Triton, for the one who owns it: loading, unloading, and what is ready.

Never reachable through a front door. Protocol: Triton's model repository extension and the Open Inference
Protocol's readiness, over HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import httpx

from models.errors import HeadendError
from serving.triton.repository import Changes

LOAD_LIMIT_S = 300.0
"""A load answers when the model is warm or has failed: minutes for a large one on a busy machine."""


class Control:
    """A connection to one Triton's control API."""

    def __init__(self, http_port: int) -> None:
        self._client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{http_port}/v2/", timeout=10)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def alive(self) -> bool:
        """Whether Triton answers at all."""
        return await self._says_yes("health/live")

    async def ready(self, model: str) -> bool:
        """Whether `model` answers inference now."""
        return await self._says_yes(f"models/{model}/ready")

    async def states(self) -> dict[str, str]:
        """Every model of the repository: READY, LOADING, UNLOADING or UNAVAILABLE with its reason."""
        rows = (await self._post("repository/index", what="list the models")).json()
        said = {
            row["name"]: f"{row.get('state', 'UNAVAILABLE')} {row.get('reason', '')}".strip() for row in rows
        }
        return dict(sorted(said.items()))

    async def load(self, model: str) -> None:
        """Load `model` as its repository now has it; one that runs is swapped when the new one is warm.

        Raises `HeadendError` with Triton's reason; what served before then serves on.
        """
        await self._post(f"repository/models/{model}/load", what=f"load {model}")

    async def unload(self, model: str) -> None:
        """Stop serving `model` once its requests in flight are answered."""
        await self._post(f"repository/models/{model}/unload", what=f"unload {model}")

    async def apply(self, changes: Changes) -> dict[str, HeadendError]:
        """Bring a running Triton to its repository's new state. Returns the models that failed, with why."""
        return {
            **await self._each(changes.written, self.load),
            **await self._each(changes.removed, self.unload),
        }

    async def _each(self, models: Iterable[str], act: Any) -> dict[str, HeadendError]:
        # One after the other: loads compete for the cores that serve.
        failed = {}
        for model in models:
            try:
                await act(model)
            except HeadendError as error:
                failed[model] = error
        return failed

    async def _says_yes(self, path: str) -> bool:
        try:
            return (await self._client.get(path)).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    async def _post(self, path: str, *, what: str) -> httpx.Response:
        try:
            answer = await self._client.post(path, timeout=LOAD_LIMIT_S)
        except httpx.HTTPError as error:
            raise HeadendError(
                f"Triton did not {what}: {error!r}.", hint="Is it running? headend status"
            ) from error
        if answer.is_error:
            raise HeadendError(
                f"Triton did not {what}: {_reason(answer)}", hint="See: headend logs SITE triton"
            )
        return answer


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return answer.text or f"HTTP {answer.status_code}"
