"""What a model made is labelled on its way out, by the frame of every app, so that no app can skip it."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

GENERATED_HEADER = "x-headend-generated-by"


class GeneratedLabel:
    """Names the app, as `headend/<app>`, in a header of everything it answers."""

    def __init__(self, app: ASGIApp, *, name: str) -> None:
        self._app = app
        self._label = f"headend/{name}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def labelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[GENERATED_HEADER] = self._label
            await send(message)

        await self._app(scope, receive, labelled)
