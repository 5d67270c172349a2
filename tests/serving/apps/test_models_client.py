"""The way to models, against a real Triton."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

from models.bundle import Bundle
from serving.apps.errors import AppError
from serving.apps.models_client import ModelsClient
from serving.apps.onward import Onward
from tests.e2e.triton_process import Triton, fleet_of, scaling_bundle

pytestmark = pytest.mark.e2e

SCALE = """
  max_batch_size: 8
  inputs: [{name: x, dtype: FP32, shape: [4]}]
  outputs: [{name: y, dtype: FP32, shape: [4]}]
"""
X = np.arange(4, dtype=np.float32)[None]


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    folder = tmp_path_factory.mktemp("models-client")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADEND_HOME", str(folder / "home"))
        bundle: Bundle = scaling_bundle(folder / "scale", "scale", 3, SCALE)
        running = Triton(folder / "triton", fleet_of({"scale": {}}))
        running.write({"scale": bundle})
        try:
            yield running.start(["scale"])
        finally:
            running.stop()


async def failing(client: ModelsClient, **asked: object) -> AppError:
    with pytest.raises(AppError) as caught:
        await client.infer(**{"model": "scale", "inputs": {"x": X}, "timeout_s": 5.0, **asked})
    return caught.value


async def test_tensors_by_name_in_and_out(triton: Triton) -> None:
    async with ModelsClient(triton.grpc) as client:
        answers = await asyncio.gather(*(client.infer("scale", {"x": X + i}) for i in range(20)))
        for i, answer in enumerate(answers):
            np.testing.assert_array_equal(answer["y"], (X + i) * 3)
        assert set(await client.infer("scale", {"x": X}, outputs=["y"], onward=Onward(hop="1"))) == {"y"}


async def test_what_a_model_refuses_is_the_request_s_fault(triton: Triton) -> None:
    async with ModelsClient(triton.grpc) as client:
        for x in (X[:, :3], X.astype(np.int32), np.array([["text"] * 4], np.object_)):
            error = await failing(client, inputs={"x": x})
            assert error.status == 400
            assert "`scale`" in error.message


async def test_a_model_nobody_serves_is_unavailable(triton: Triton) -> None:
    async with ModelsClient(triton.grpc) as client:
        error = await failing(client, model="nobody")
    assert (error.status, error.code) == (503, "model_unavailable")


async def test_a_server_that_hangs_is_given_up(triton: Triton) -> None:
    assert triton.process
    os.kill(triton.process.pid, signal.SIGSTOP)
    try:
        async with ModelsClient(triton.grpc) as client:
            error = await failing(client, timeout_s=0.5)
    finally:
        os.kill(triton.process.pid, signal.SIGCONT)
    assert error.status == 504


async def test_nobody_there_is_unavailable_and_one_who_comes_back_answers(triton: Triton) -> None:
    async with ModelsClient(triton.grpc) as client:
        assert (await client.infer("scale", {"x": X}))["y"][0, 1] == 3
        await asyncio.to_thread(triton.stop)
        error = await failing(client)
        assert (error.status, error.code) == (503, "model_unavailable")
        await asyncio.to_thread(triton.start, ["scale"])
        assert (await client.infer("scale", {"x": X}))["y"][0, 1] == 3
