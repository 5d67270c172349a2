"""What goes wrong in an app, as OpenAI's error object with the status that fits.

The object is `{"error": {"message", "type", "param", "code"}}`
(https://platform.openai.com/docs/guides/error-codes), so the `openai` clients raise
their own exceptions for it.
"""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from models.errors import HeadendError

_LOG = logging.getLogger(__name__)


class AppError(HeadendError):
    """A request that cannot be answered; `status` is the HTTP status that says why."""

    def __init__(
        self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code

    def body(self) -> dict[str, Any]:
        """The error object, ready for JSON."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class UnknownModelError(AppError):
    """The request names a model that this app does not answer for: 404."""

    def __init__(self, model: str, known: list[str]) -> None:
        names = ", ".join(f"`{name}`" for name in known)
        super().__init__(
            f"The model `{model}` does not exist here; known: {names}.",
            status=404,
            param="model",
            code="model_not_found",
        )


class TooLargeError(AppError):
    """More than this site accepts: 413."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message, status=413, param=param, code="request_too_large")


class ModelUnavailableError(AppError):
    """No site could answer for a model just now: 503, worth asking again."""

    def __init__(self, message: str) -> None:
        super().__init__(message, status=503, code="model_unavailable")


def install(app: FastAPI) -> None:
    """Make every error that `app` answers an error object, FastAPI's own included."""

    @app.exception_handler(AppError)
    async def _app_error(_: Request, error: AppError) -> JSONResponse:
        return JSONResponse(error.body(), status_code=error.status)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _answer(_from_validation(error))

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        # What a body's reading raised, FastAPI hands on as the cause of its own error.
        if isinstance(error.__cause__, AppError):
            return _answer(error.__cause__)
        return _answer(AppError(str(error.detail), status=error.status_code), error.headers)

    @app.exception_handler(Exception)
    async def _unexpected(request: Request, error: Exception) -> JSONResponse:
        _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return _answer(AppError("The app failed on this request; its log says why.", status=500))


def _answer(error: AppError, headers: Any = None) -> JSONResponse:
    return JSONResponse(error.body(), status_code=error.status, headers=headers)


def _from_validation(error: RequestValidationError) -> AppError:
    """The first field that is wrong, named; what was sent is not repeated, it may be large or private."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    name = ".".join(place) or "body"
    return AppError(f"`{name}`: {first['msg']}.", param=name)
