"""`POST /v1/audio/transcriptions`."""

from __future__ import annotations

from fastapi import FastAPI

from serving.apps.application import new_app
from serving.apps.config import AppsConfig


def create_app(config: AppsConfig) -> FastAPI:
    """The subtitles app."""
    return new_app("subtitles", config)
