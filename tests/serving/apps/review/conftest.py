"""The review app with its real models, built once for all tests (see `built`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from built import TEST_HOME, alone
from fastapi import FastAPI
from PIL import Image

from models.build import build
from models.bundle import Bundle
from models.runtime import session
from models.store import open_store
from serving.apps import application
from serving.apps.config import AppConfig, AppsConfig
from serving.apps.models_client import NOTHING
from serving.apps.onward import Onward
from serving.apps.review.api import create_app
from serving.apps.review.inference import Array

MODELS = ("ppocr-det", "ppocr-cls", "ppocr-rec", "open-nsfw")
PICTURES = Path(__file__).with_name("pictures")


class Runtime:
    """ONNX Runtime in this process, asked as the front door is."""

    def __init__(self, bundles: Mapping[str, Bundle]) -> None:
        self._sessions: dict[str, onnxruntime.InferenceSession] = {
            name: session(bundle.graph("model", "fp32")) for name, bundle in bundles.items()
        }
        self.hops: set[str | None] = set()

    async def infer(
        self, model: str, inputs: Mapping[str, Array], *, onward: Onward = NOTHING
    ) -> dict[str, Array]:
        self.hops.add(onward.hop)
        graph = self._sessions[model]
        found = await asyncio.to_thread(graph.run, None, dict(inputs))
        return dict(zip([output.name for output in graph.get_outputs()], found, strict=True))

    async def __call__(self, model: str, inputs: Mapping[str, Array], /) -> dict[str, Array]:
        return await self.infer(model, inputs)


@pytest.fixture(scope="session")
def bundles() -> dict[str, Bundle]:
    with alone(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADEND_HOME", str(TEST_HOME))
        return {name: open_store().fetch(name, build(name).digest) for name in MODELS}


@pytest.fixture(scope="session")
def runtime(bundles: dict[str, Bundle]) -> Runtime:
    return Runtime(bundles)


MakeConfig = Callable[..., AppsConfig]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundles: dict[str, Bundle]) -> MakeConfig:
    """The app's config: (address where models answer, policy file)."""
    monkeypatch.setenv("HEADEND_HOME", str(TEST_HOME))

    def make(front_door: str = "127.0.0.1:9", policy: Path | None = None) -> AppsConfig:
        apps: dict[Any, AppConfig] = {"review": AppConfig(port=9, policy=policy)}
        return AppsConfig(site="here", port=9, run_dir=tmp_path, front_door=front_door, apps=apps)

    return make


@pytest.fixture
def make_app(config: MakeConfig, runtime: Runtime) -> Callable[..., FastAPI]:
    """The app with its models in this process: (policy file)."""

    def make(policy: Path | None = None) -> FastAPI:
        app = create_app(config(policy=policy))
        app.dependency_overrides[application.models] = lambda: runtime
        return app

    return make


@pytest.fixture(scope="session")
def frame() -> Image.Image:
    with Image.open(PICTURES / "frame.png") as image:
        return image.convert("RGB")
