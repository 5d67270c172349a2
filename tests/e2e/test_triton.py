"""The real Triton with real bundles: it runs what was derived, answers, and survives what it is sent."""

from __future__ import annotations

import asyncio
import json
import queue
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.grpc as grpc
import tritonclient.http as http
from google.protobuf import json_format
from triton_process import Triton, fleet_of, pairs_bundle, scaling_bundle
from tritonclient.grpc import model_config_pb2 as pb
from tritonclient.utils import InferenceServerException

from loadtests.testbed.pace import PACE, SHIM, Pace
from models.bundle import Bundle
from models.errors import HeadendError
from serving.router.telemetry import triton as telemetry
from serving.triton.config import parse
from serving.triton.control import Control
from serving.triton.repository import Changes

pytestmark = pytest.mark.e2e

BATCHED = """
  max_batch_size: 8
  queue_delay_us: 20000
  inputs: [{name: x, dtype: FP32, shape: [4]}]
  outputs: [{name: y, dtype: FP32, shape: [4]}]
"""
WHOLE = """
  max_batch_size: 0
  inputs: [{name: x, dtype: FP32, shape: [-1, -1], example: [1, 2]}]
  outputs: [{name: y, dtype: FP32, shape: [-1, -1]}]
"""
CLIENTS = [http, grpc]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Bundle]]:
    """`scale` (batched), `pairs` (not batched), and `scale3`: what `scale` becomes."""
    folder = tmp_path_factory.mktemp("triton")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEADEND_HOME", str(folder / "home"))
        yield {
            "scale": scaling_bundle(folder / "scale", "scale", 2, BATCHED),
            "scale3": scaling_bundle(folder / "scale3", "scale", 3, BATCHED),
            "pairs": pairs_bundle(folder / "pairs", "pairs", WHOLE),
        }


@pytest.fixture(scope="module")
def triton(bundles: dict[str, Bundle], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    """Serves `scale` and `pairs`; also asked for a model that cannot load."""
    one = Triton(tmp_path_factory.mktemp("serving"), fleet_of({"scale": {}, "pairs": {}}))
    one.write(bundles)
    _garbage(one, "broken")
    try:
        yield one.start(["broken", "scale", "pairs"])
    finally:
        one.stop()


def _garbage(triton: Triton, name: str) -> None:
    """Put a model beside the derived ones whose graph is no graph."""
    config = (triton.repository / "scale" / "config.pbtxt").read_text().replace('"scale"', f'"{name}"')
    (version,) = parse(config).version_policy.specific.versions
    directory = triton.repository / name / str(version)
    directory.mkdir(parents=True)
    shim = (triton.repository / "scale" / str(version) / "model.py").read_bytes()
    (directory / "model.py").write_bytes(shim)
    (directory / "model.onnx").write_bytes(b"not a graph")
    (triton.repository / name / "config.pbtxt").write_text(config)


def connect(kind: Any, triton: Triton) -> Any:
    return kind.InferenceServerClient(triton.http if kind is http else triton.grpc)


def tensor(kind: Any, array: Any, name: str = "x", dtype: str = "FP32") -> Any:
    given = kind.InferInput(name, list(array.shape), dtype)
    given.set_data_from_numpy(array)
    return given


def rows(*values: float) -> Any:
    return np.repeat(np.array(values, np.float32)[:, None], 4, axis=1)


def test_runs_what_was_derived(triton: Triton) -> None:
    for name in ("scale", "pairs"):
        derived = parse((triton.repository / name / "config.pbtxt").read_text())
        said_http = connect(http, triton).get_model_config(name)
        said_grpc = connect(grpc, triton).get_model_config(name).config
        for running in (json_format.ParseDict(said_http, pb.ModelConfig()), said_grpc):
            assert_says(running, derived)
        batch = [-1] if derived.max_batch_size else []
        metadata = connect(http, triton).get_model_metadata(name)
        assert metadata["versions"] == [str(derived.version_policy.specific.versions[0])]
        assert [(each["name"], each["shape"]) for each in metadata["inputs"]] == [
            (each.name, [*batch, *each.dims]) for each in derived.input
        ]


def assert_says(running: Any, derived: Any) -> None:
    """Every field that was derived is as derived; Triton adds defaults of its own."""
    for field, value in derived.ListFields():
        said = getattr(running, field.name)
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            assert said == value, field.name
        elif field.is_repeated:
            assert len(said) == len(value), field.name
            for one, other in zip(said, value, strict=True):
                assert_says(one, other)
        else:
            assert_says(said, value)


@pytest.mark.parametrize("kind", CLIENTS)
def test_answers(triton: Triton, kind: Any) -> None:
    with connect(kind, triton) as client:
        answer = client.infer("scale", [tensor(kind, rows(1, 5))])
        assert np.array_equal(answer.as_numpy("y"), rows(2, 10))
        answer = client.infer("pairs", [tensor(kind, np.array([[1, 2, 3, 4]], np.float32))])
        assert answer.as_numpy("y").tolist() == [[3, 7]]


def test_answers_a_stream(triton: Triton) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    with connect(grpc, triton) as client:
        client.start_stream(lambda result, error: answers.put(error or result.as_numpy("y")))
        for value in range(5):
            client.async_stream_infer("scale", [tensor(grpc, rows(value))])
        said = [answers.get(timeout=10) for _ in range(5)]
        client.stop_stream()
    assert [each[0, 0] for each in said] == [0, 2, 4, 6, 8]


def test_joins_requests_and_gives_each_its_own_answer(triton: Triton) -> None:
    before = _executions(triton, "scale")
    with connect(grpc, triton) as client, ThreadPoolExecutor(16) as pool:
        values = list(range(200))
        said = list(
            pool.map(lambda v: client.infer("scale", [tensor(grpc, rows(v, -v))]).as_numpy("y"), values)
        )
    assert all(np.array_equal(each, rows(2 * v, -2 * v)) for v, each in zip(values, said, strict=True))
    assert _executions(triton, "scale") - before < len(values)


def _executions(triton: Triton, model: str) -> int:
    with connect(http, triton) as client:
        return int(client.get_inference_statistics(model)["model_stats"][0]["execution_count"])


BAD = {
    "unknown model": (
        "nobody",
        lambda k: [tensor(k, rows(1))],
        "404|400|NOT_FOUND",
        "unknown model|not found",
    ),
    "wrong shape": (
        "scale",
        lambda k: [tensor(k, np.ones((1, 5), np.float32))],
        "400|INVALID",
        r"unexpected shape for input 'x'.*Expected \[-1,4\], got \[1,5\]",
    ),
    "wrong dtype": (
        "scale",
        lambda k: [tensor(k, np.ones((1, 4), np.int32), dtype="INT32")],
        "400|INVALID",
        "data-type is 'INT32'.*'FP32'",
    ),
    "wrong name": ("scale", lambda k: [tensor(k, rows(1), name="z")], "400|INVALID", "unexpected.*'z'"),
    "too many at once": (
        "scale",
        lambda k: [tensor(k, np.ones((9, 4), np.float32))],
        "400|INVALID",
        "must be <= 8",
    ),
    "a size that the graph cannot take": (
        "pairs",
        lambda k: [tensor(k, np.ones((1, 3), np.float32))],
        "400|INVALID",
        r"cannot take inputs of these shapes: x \[1, 3\]",
    ),
}


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_a_sentence_that_helps(triton: Triton, kind: Any, case: str) -> None:
    model, inputs, status, sentence = BAD[case]
    with connect(kind, triton) as client:
        with pytest.raises(InferenceServerException, match=f"(?i){sentence}") as refusal:
            client.infer(model, inputs(kind))
        assert any(word in str(refusal.value.status()) for word in status.split("|"))
        assert np.array_equal(client.infer("scale", [tensor(kind, rows(1))]).as_numpy("y"), rows(2))


async def test_a_model_that_fails_to_load_leaves_the_others_serving(triton: Triton) -> None:
    async with Control(triton.http_port) as control:
        states = await control.states()
        assert states["scale"] == states["pairs"] == "READY"
        assert states["broken"].startswith("UNAVAILABLE")
        assert not await control.ready("broken")
        assert triton.answers("health/ready")
        with pytest.raises(HeadendError, match=r"broken.*model\.onnx"):
            await control.load("broken")
        assert await control.ready("scale")


async def test_a_model_that_crashes_while_loading_leaves_the_others_serving(triton: Triton) -> None:
    crasher = triton.repository / "crasher"
    _garbage(triton, crasher.name)
    (shim,) = crasher.glob("*/model.py")
    shim.write_text("import os\n\nos.abort()\n")
    async with Control(triton.http_port) as control:
        with pytest.raises(HeadendError, match="did not load crasher"):
            await control.load(crasher.name)
        await asyncio.sleep(1)
        assert await control.ready("scale")
    shutil.rmtree(crasher)


async def test_new_weights_take_over_without_a_failed_answer(
    triton: Triton, bundles: dict[str, Bundle]
) -> None:
    stop, said = threading.Event(), list[float]()

    def ask() -> None:
        with connect(grpc, triton) as client:
            while not stop.is_set():
                said.append(float(client.infer("scale", [tensor(grpc, rows(1))]).as_numpy("y")[0, 0]))

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        try:
            async with Control(triton.http_port) as control:
                changes = triton.write(bundles | {"scale": bundles["scale3"]})
                assert changes == Changes(written=["scale"], removed=["broken"], unchanged=["pairs"])
                assert await control.apply(changes) == {}
                await asyncio.sleep(0.3)
        finally:
            stop.set()
        for each in asking:
            each.result()
    assert said[0] == 2
    assert said[-1] == 3
    assert set(said) == {2, 3}


async def test_a_failed_load_leaves_what_was_serving(triton: Triton) -> None:
    config = triton.repository / "scale" / "config.pbtxt"
    good = config.read_text()
    config.write_text(good.replace("dims: 4", "dims: 5"))  # the warm-up no longer fits the graph
    try:
        async with Control(triton.http_port) as control:
            with pytest.raises(HeadendError, match="Triton did not load scale"):
                await control.load("scale")
            assert await control.ready("scale")
    finally:
        config.write_text(good)
    with connect(grpc, triton) as client:
        assert client.infer("scale", [tensor(grpc, rows(1))]).as_numpy("y").shape == (1, 4)


def test_a_crashed_model_process_ends_its_triton_at_once(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    """An error could not be retried by a front door; a closed connection can."""
    triton = Triton(tmp_path, fleet_of({"scale": {}}))
    triton.write(bundles)
    try:
        assert triton.start(["scale"]).process
        time.sleep(2.5)  # the watcher looks for new processes every two seconds
        (stub,) = triton.stubs()
        stub.kill()
        assert triton.process
        assert triton.process.wait(2) == -signal.SIGKILL
        assert "ended by SIGKILL: ending Triton" in triton.log.read_text()
        assert triton.start(["scale"]).answers("models/scale/ready")
    finally:
        triton.stop()


def test_killed_it_leaves_no_process(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    triton = Triton(tmp_path, fleet_of({"scale": {}}))
    triton.write(bundles)
    try:
        process = triton.start(["scale"]).process
        assert process
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) == 2  # the model's process and the watcher
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(family, timeout=15)
        assert not alive
    finally:
        triton.stop()


def test_what_a_killed_family_leaves_in_memory_bears_its_name(
    bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    triton = Triton(tmp_path, fleet_of({"scale": {}}))
    triton.write(bundles)
    try:
        process = triton.start(["scale"]).process
        assert process
        for each in [psutil.Process(process.pid), *triton.stubs()]:
            each.kill()
        process.wait()
        assert triton.shared_memory()
    finally:
        triton.stop()
    assert not triton.shared_memory()


def test_stopped_it_leaves_nothing(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    triton = Triton(tmp_path, fleet_of({"scale": {}}))
    triton.write(bundles)
    process = triton.start(["scale"]).process
    assert process
    family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    assert process.wait(30) == 0
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not alive
    assert not triton.shared_memory()


@pytest.mark.parametrize("kind", CLIENTS)
def test_triton_refuses_what_its_queue_cannot_take(
    bundles: dict[str, Bundle], tmp_path: Path, kind: Any
) -> None:
    card = bundles["scale"].card
    serving = card.serving.model_copy(update={"max_queue": 1, "max_batch_size": 1, "queue_delay_us": 0})
    small = Bundle(**(vars(bundles["scale"]) | {"card": card.model_copy(update={"serving": serving})}))
    triton = Triton(tmp_path, fleet_of({"scale": {"admission": "triton"}}))
    triton.write({"scale": small})
    try:
        triton.start(["scale"])
        (stub,) = triton.stubs()
        with ThreadPoolExecutor(8) as pool:
            stub.suspend()  # busy; after a second Triton would take it for dead
            waiting = [pool.submit(_ask, kind, triton) for _ in range(8)]
            time.sleep(0.5)
            stub.resume()
            said = [each.result() for each in waiting]
        refused = [each for each in said if isinstance(each, InferenceServerException)]
        assert refused
        assert len(refused) < len(said)
        for each in refused:
            assert "503" in str(each.status()) or "UNAVAILABLE" in str(each.status())
            assert "queue size" in each.message()
    finally:
        triton.stop()


def test_what_clients_gave_up_is_told_apart_from_work(tmp_path: Path, monkeypatch: Any) -> None:
    """Triton counts it as done, in no time: its model would look faster the more clients give up."""
    monkeypatch.setenv("HEADEND_HOME", str(tmp_path / "home"))
    alone = BATCHED.replace("max_batch_size: 8", "max_batch_size: 1")
    slow = scaling_bundle(tmp_path / "slow", "slow", 2, alone)
    triton = Triton(tmp_path, fleet_of({"slow": {}}))
    triton.write({"slow": slow})
    for script in triton.repository.glob("slow/*/model.py"):
        script.write_text(SHIM)
        script.with_name(PACE).write_text(json.dumps(asdict(Pace(0.4, 0, 1))))
    try:
        triton.start(["slow"])
        errors: queue.Queue[Any] = queue.Queue()
        with connect(grpc, triton) as client:
            for limit in (10, 0.2, 0.2, 0.2, 10):
                given = [tensor(grpc, rows(1))]
                client.async_infer(
                    "slow", given, lambda result, error: errors.put(error), client_timeout=limit
                )
                time.sleep(0.02)
            said = [errors.get(timeout=20) for _ in range(5)]
        assert said.count(None) == 2
        reading = asyncio.run(_read(triton))
        counted: list[telemetry.Key] = [("slow", "answered"), ("slow", "rows"), ("slow", "executions", 1)]
        worked = {reading.counters[key] - reading.unworked[key] for key in counted}
        assert worked <= {2, 3, 4}, "one may have been begun when its client gave up"
        assert len(worked) == 1
        assert reading.counters["slow", "service_ns"] / 1e9 == pytest.approx(0.4 * worked.pop(), abs=0.2)
    finally:
        triton.stop()


async def _read(triton: Triton) -> telemetry.TritonReading:
    async with httpx.AsyncClient() as client:
        return await telemetry.read(client, triton.http_port, triton.metrics_port)


def _ask(kind: Any, triton: Triton) -> Any:
    with connect(kind, triton) as client:
        try:
            return client.infer("scale", [tensor(kind, rows(1))]).as_numpy("y")
        except InferenceServerException as error:
            return error
