"""The review app: `POST /v1/moderations`."""

from __future__ import annotations

import functools
import uuid
from typing import Annotated

from fastapi import Depends, FastAPI, Request

from models.store import open_store
from serving.apps.application import models, new_app, onward, while_connected
from serving.apps.config import AppsConfig
from serving.apps.models_client import ModelsClient
from serving.apps.onward import Onward
from serving.apps.review import request as asked
from serving.apps.review.answer import Moderation
from serving.apps.review.inference import Infer
from serving.apps.review.ocr.reader import RECOGNISER
from serving.apps.review.policy_file import PACKAGED, PolicyFile
from serving.apps.review.reviewer import Reviewer

_PATH = "/v1/moderations"
# FastAPI does not see the body's model, so it is described here, with references into this very place.
_HERE = f"#/paths/{_PATH.replace('/', '~1')}/post/requestBody/content/application~1json/schema/$defs/"
_SCHEMA = asked.Request.model_json_schema(ref_template=_HERE + "{model}")
_BODY = {"requestBody": {"content": {"application/json": {"schema": _SCHEMA}}, "required": True}}


def create_app(config: AppsConfig) -> FastAPI:
    """The review app.

    Rather than start, raises `DeclarationError` for a policy that is not valid, and `UsageError` or
    `IntegrityError` when the recogniser's bundle has no labels.
    """
    app = new_app("review", config)
    reviewer = Reviewer(
        labels=open_store(config.store).fetch(RECOGNISER).file("labels.txt"),
        policy=PolicyFile(config.apps["review"].policy or PACKAGED),
    )

    @app.post(_PATH, openapi_extra=_BODY)
    async def moderations(
        request: Request,
        client: Annotated[ModelsClient, Depends(models)],
        said: Annotated[Onward, Depends(onward)],
    ) -> Moderation:
        """Review texts and pictures by the policy."""
        # Read as bytes and parsed in a thread: with pictures in it, a body has tens of megabytes.
        wanted = await reviewer.in_thread(asked.parse, await request.body())
        infer = functools.partial(client.infer, onward=said)
        return await while_connected(request, _moderation(reviewer, wanted, infer))

    return app


async def _moderation(reviewer: Reviewer, wanted: asked.Request, infer: Infer) -> Moderation:
    results = [await reviewer.review(parts, infer) for parts in wanted.inputs()]
    return Moderation(id=f"modr-{uuid.uuid4().hex}", model=asked.MODEL, results=results)
