"""The front door of two real sites, through the clients that people use."""

from __future__ import annotations

import asyncio
import json
import queue
from collections.abc import Callable, Iterator
from typing import Any

import grpc as raw_grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.e2e

MIB = 1 << 20


def tensor(module: Any, size: int, name: str = "x") -> tuple[np.ndarray, list[Any]]:
    values = np.arange(size, dtype=np.float32)
    given = module.InferInput(name, [size], "FP32")
    given.set_data_from_numpy(values)
    return values, [given]


def same(result: Any, values: np.ndarray) -> None:
    np.testing.assert_array_equal(result.as_numpy("y"), values)


class TestTritonClient:
    """`tritonclient` against a front door, unchanged."""

    @pytest.fixture
    def grpc(self, two: Any) -> Iterator[triton_grpc.InferenceServerClient]:
        with triton_grpc.InferenceServerClient(two.here.door) as client:
            yield client

    @pytest.fixture
    def http(self, two: Any) -> Iterator[triton_http.InferenceServerClient]:
        with triton_http.InferenceServerClient(two.here.door) as client:
            yield client

    @pytest.mark.parametrize("size", [1, 1000, 1_000_000, 5_000_000])
    @pytest.mark.parametrize("model", ["echo", "far"])
    def test_grpc_infers(self, grpc: Any, model: str, size: int) -> None:
        values, inputs = tensor(triton_grpc, size)
        same(grpc.infer(model, inputs), values)
        same(grpc.infer(model, inputs, headers={"x-headend-model": model}), values)

    @pytest.mark.parametrize("size", [1, 1_000_000, 5_000_000])
    @pytest.mark.parametrize("model", ["echo", "far"])
    def test_http_infers(self, http: Any, model: str, size: int) -> None:
        values, inputs = tensor(triton_http, size)
        same(http.infer(model, inputs), values)

    @pytest.mark.parametrize("model", ["echo", "far"])
    def test_http_compressed(self, http: Any, model: str) -> None:
        values, inputs = tensor(triton_http, 1000)
        same(
            http.infer(
                model, inputs, request_compression_algorithm="gzip", response_compression_algorithm="gzip"
            ),
            values,
        )

    @pytest.mark.parametrize("headers", [None, {"x-headend-model": "far"}])
    def test_grpc_compressed(self, grpc: Any, headers: Any) -> None:
        """A compressed message cannot be looked into; a server that has the model is found all the same."""
        values, inputs = tensor(triton_grpc, 1000)
        for algorithm in ("gzip", "deflate"):
            same(grpc.infer("far", inputs, compression_algorithm=algorithm, headers=headers), values)

    @pytest.mark.parametrize("window", [0, 1000])
    def test_the_name_is_found_wherever_it_stands_in_the_message(self, two: Any, window: int) -> None:
        name = service_pb2.ModelReadyRequest(name="far").SerializeToString()
        # Fields that the message has not: unknown ones are skipped.
        others = bytes([9 << 3, 0x96, 1, 10 << 3 | 1, *bytes(8), 11 << 3 | 5, *bytes(4)])
        others += bytes([12 << 3 | 2, 0x80 | window % 128, window // 128, *bytes(window)])
        with raw_grpc.insecure_channel(two.here.door) as channel:
            ask = channel.unary_unary("/inference.GRPCInferenceService/ModelReady")
            answer = service_pb2.ModelReadyResponse.FromString(ask(others + name, timeout=10))
            assert answer.ready
            for wrong in (b"\n\x09a\r\nb: c\r\n", b"\n\x7fa", others[:-1]):
                with pytest.raises(raw_grpc.RpcError):
                    ask(wrong, timeout=10)
            assert service_pb2.ModelReadyResponse.FromString(ask(name, timeout=10)).ready

    def test_a_stream_to_what_cannot_be_a_name_is_refused(self, two: Any) -> None:
        method = "/inference.GRPCInferenceService/ModelStreamInfer"
        with raw_grpc.insecure_channel(two.here.door) as channel:
            ask = channel.stream_stream(method, service_pb2.ModelInferRequest.SerializeToString)
            for wrong in ("echo\r\nx-headend-class: live", "echo?", "\u00e9cho"):
                with pytest.raises(raw_grpc.RpcError, match="no such model"):
                    list(ask(iter([service_pb2.ModelInferRequest(model_name=wrong)]), timeout=10))

    async def test_grpc_aio(self, two: Any) -> None:
        values, inputs = tensor(triton_grpc_aio, 1000)
        async with triton_grpc_aio.InferenceServerClient(two.here.door) as client:
            results = await asyncio.gather(*(client.infer(m, inputs) for m in ("echo", "far") * 4))
        for result in results:
            same(result, values)

    async def test_http_aio(self, two: Any) -> None:
        values, inputs = tensor(triton_http_aio, 1000)
        async with triton_http_aio.InferenceServerClient(two.here.door) as client:
            results = await asyncio.gather(*(client.infer(m, inputs) for m in ("echo", "far") * 4))
        for result in results:
            same(result, values)

    @pytest.mark.parametrize("model", ["echo", "far"])
    @pytest.mark.parametrize("named", [False, True])
    def test_streams(self, grpc: Any, model: str, named: bool) -> None:
        answers: queue.Queue[Any] = queue.Queue()
        grpc.start_stream(
            lambda result, error: answers.put(error or result),
            headers={"x-headend-model": model} if named else None,
        )
        # A stream may carry more than one request may, over its life.
        sizes = [10, 1000, 3 * MIB, 3 * MIB, 3 * MIB]
        for size in sizes:
            grpc.async_stream_infer(model, tensor(triton_grpc, size)[1])
        for size in sizes:
            same(answers.get(timeout=60), tensor(triton_grpc, size)[0])
        grpc.stop_stream()

    async def test_streams_aio_one_answer_at_a_time(self, two: Any) -> None:
        """Each message is answered before the next is sent: nothing may wait for the stream's end."""
        requests: asyncio.Queue[Any] = asyncio.Queue()

        async def sent() -> Any:
            while (request := await requests.get()) is not None:
                yield request

        async with triton_grpc_aio.InferenceServerClient(two.here.door) as client:
            answers = client.stream_infer(sent())
            for size in (5, 6, 7):
                values, inputs = tensor(triton_grpc_aio, size)
                await requests.put({"model_name": "far", "inputs": inputs})
                result, error = await asyncio.wait_for(anext(aiter(answers)), 20)
                assert error is None
                same(result, values)
            await requests.put(None)

    @pytest.mark.parametrize("transport", ["grpc", "http"])
    def test_asks_about_server_and_models(self, transport: str, request: pytest.FixtureRequest) -> None:
        client = request.getfixturevalue(transport)
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("echo")
        assert client.is_model_ready("far")
        json_wanted = {"as_json": True} if transport == "grpc" else {}
        assert client.get_server_metadata(**json_wanted)["name"] == "triton"
        assert client.get_model_metadata("far", **json_wanted)["name"] == "far"
        config = client.get_model_config("far", **json_wanted)
        assert (config["config"] if transport == "grpc" else config)["name"] == "far"
        statistics = client.get_inference_statistics("far", **json_wanted)["model_stats"]
        assert [each["name"] for each in statistics] == ["far"]
        every = client.get_inference_statistics(**json_wanted)["model_stats"]
        assert {each["name"] for each in every} == {"echo", "slow", "guarded", "paced"}

    @pytest.mark.parametrize(
        "call",
        [
            lambda client: client.get_model_repository_index(),
            lambda client: client.load_model("echo"),
            lambda client: client.unload_model("echo"),
            lambda client: client.get_log_settings(),
            lambda client: client.update_log_settings({"log_verbose_level": 9}),
            lambda client: client.get_trace_settings(),
            lambda client: client.get_trace_settings("echo"),
            lambda client: client.update_trace_settings("echo", {"trace_level": ["TIMESTAMPS"]}),
            lambda client: client.get_system_shared_memory_status(),
            lambda client: client.register_system_shared_memory("x", "/x", 8),
            lambda client: client.unregister_cuda_shared_memory(),
        ],
    )
    @pytest.mark.parametrize("transport", ["grpc", "http"])
    def test_management_is_refused(
        self, transport: str, call: Callable[[Any], Any], request: pytest.FixtureRequest
    ) -> None:
        client = request.getfixturevalue(transport)
        with pytest.raises(InferenceServerException) as caught:
            call(client)
        assert caught.value.status() == ("StatusCode.PERMISSION_DENIED" if transport == "grpc" else "403")
        assert "belongs to the site" in caught.value.message()
        assert client.is_model_ready("echo")

    @pytest.mark.parametrize("headers", [None, {"x-headend-model": "nope"}])
    @pytest.mark.parametrize("transport", ["grpc", "http"])
    def test_an_unknown_model_is_told_the_known_ones(
        self, transport: str, headers: Any, request: pytest.FixtureRequest
    ) -> None:
        client = request.getfixturevalue(transport)
        _, inputs = tensor(triton_grpc if transport == "grpc" else triton_http, 3)
        with pytest.raises(InferenceServerException) as caught:
            client.infer("nope", inputs, headers=headers)
        assert caught.value.status() == ("StatusCode.NOT_FOUND" if transport == "grpc" else "404")
        assert "Known models: echo, far, guarded, paced, slow." in caught.value.message()

    @pytest.mark.parametrize("transport", ["grpc", "http"])
    def test_tritons_own_errors_pass(self, transport: str, request: pytest.FixtureRequest) -> None:
        client = request.getfixturevalue(transport)
        _, inputs = tensor(triton_grpc if transport == "grpc" else triton_http, 3, name="wrong")
        with pytest.raises(InferenceServerException, match="wrong") as caught:
            client.infer("echo", inputs)
        assert caught.value.status() == ("StatusCode.INVALID_ARGUMENT" if transport == "grpc" else "400")

    @pytest.mark.parametrize("named", [False, True])
    def test_a_message_too_large_is_refused_over_grpc(self, grpc: Any, named: bool) -> None:
        _, inputs = tensor(triton_grpc, 25 * MIB // 4)
        headers = {"x-headend-model": "echo"} if named else None
        with pytest.raises(InferenceServerException, match="larger than 24 MiB") as caught:
            grpc.infer("echo", inputs, headers=headers)
        assert caught.value.status() == "StatusCode.RESOURCE_EXHAUSTED"

    def test_a_body_too_large_is_refused_over_http(self, http: Any) -> None:
        _, inputs = tensor(triton_http, 25 * MIB // 4)
        with pytest.raises(InferenceServerException, match="larger than 24 MiB") as caught:
            http.infer("echo", inputs)
        assert caught.value.status() == "413"


@pytest.fixture
def client(two: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=two.here.url, timeout=30) as client:
        yield client


class TestHttp:
    def test_it_lives_and_can_answer(self, client: httpx.Client) -> None:
        assert client.get("/healthz").json() == {"status": "ok", "site": "here"}
        assert client.get("/readyz").status_code == 200

    def test_models_are_listed_as_openai_does(self, client: httpx.Client) -> None:
        listed = client.get("/v1/models").json()
        models = {"echo", "far", "slow", "guarded", "paced"}
        names = models | {"subtitles", "review", "whisper-1", "omni-moderation-latest"}
        assert listed["object"] == "list"
        assert {each["id"] for each in listed["data"]} == names
        for name in names:
            one = client.get(f"/v1/models/{name}").json()
            assert one == {"id": name, "object": "model", "created": 0, "owned_by": "headend"}
        missing = client.get("/v1/models/nope")
        assert missing.status_code == 404
        assert missing.json()["error"]["code"] == "model_not_found"
        assert "whisper-1" in missing.json()["error"]["message"]

    @pytest.mark.parametrize(
        "path", ["/v1/audio/transcriptions", "/v1/audio/translations", "/v1/moderations"]
    )
    def test_apps_answer_here(self, client: httpx.Client, path: str) -> None:
        response = client.post(path, content=b"x" * 1000)
        assert response.json() == {"site": "here", "bytes": 1000, "hop": None}
        assert response.headers["x-headend-site"] == "here"
        assert response.headers["x-envoy-attempt-count"] == "1"

    @pytest.mark.parametrize(
        ("path", "style"),
        [
            ("/v1/chat/completions", "openai"),
            ("/v2/nothing", "oip"),
            ("/v2/models/echo/no", "oip"),
            ("/x", "oip"),
        ],
    )
    def test_unknown_paths_are_refused_in_the_apis_style(
        self, client: httpx.Client, path: str, style: str
    ) -> None:
        response = client.post(path, json={})
        assert response.status_code == 404
        error = response.json()["error"]
        message = error["message"] if style == "openai" else error
        assert len(message) > 20
        if style == "openai":
            assert error["type"] == "invalid_request_error"

    @pytest.mark.parametrize(
        "path",
        [
            "/v2/repository/index",
            "/v2/repository/models/echo/unload",
            "//v2//repository/index",
            "/v2/models/echo/../../repository/index",
            "/v2/models/echo/%2e%2e/%2e%2e/repository/index",
            "/v2/models/echo/trace/setting",
            "/v2/logging",
        ],
    )
    @pytest.mark.parametrize("listener", ["url", "peer_url"])
    def test_management_is_refused_however_it_is_spelt(self, two: Any, listener: str, path: str) -> None:
        response = _raw(getattr(two.here, listener), "POST", path)
        assert response.status_code == 403
        assert "belongs to the site" in response.json()["error"]

    def test_escaped_slashes_are_refused(self, two: Any) -> None:
        response = _raw(two.here.url, "POST", "/v2%2Frepository/index")
        assert response.status_code == 400
        assert "path" in response.json()["error"]

    @pytest.mark.parametrize("counted", [True, False], ids=["declared", "chunked"])
    def test_a_body_too_large_is_refused(self, client: httpx.Client, counted: bool) -> None:
        block = b"x" * MIB
        body = block * 25 if counted else (block for _ in range(25))
        response = client.post("/v1/moderations", content=body)
        assert response.status_code == 413
        assert response.json()["error"]["message"] == "The request body is larger than 24 MiB."
        assert response.json()["error"]["type"] == "invalid_request_error"

    def test_a_body_just_small_enough_streams_through(self, client: httpx.Client) -> None:
        block = b"x" * MIB
        response = client.post("/v1/audio/transcriptions", content=(block for _ in range(24)))
        assert response.json()["bytes"] == 24 * MIB

    def test_answers_with_a_request_id_of_the_client_are_logged_without_secrets(
        self, two: Any, client: httpx.Client
    ) -> None:
        headers = {"x-request-id": "id-of-mine", "authorization": "Bearer hush"}
        client.post("/v1/moderations?token=hush", content=b"hush", headers=headers)
        (entry,) = two.here.logged(lambda entry: entry["request_id"] == "id-of-mine")
        assert "hush" not in json.dumps(entry)
        assert {
            key: entry[key] for key in ("site", "method", "path", "pool", "upstream_site", "attempts")
        } == {
            "site": "here",
            "method": "POST",
            "path": "/v1/moderations",
            "pool": "review",
            "upstream_site": "here",
            "attempts": 1,
        }
        assert entry["status"] == 200
        assert entry["bytes_in"] == 4
        assert entry["duration_ms"] >= 0


class TestOneHop:
    def test_the_other_site_sees_the_hop(self, client: httpx.Client) -> None:
        response = client.post("/v1/moderations", headers={"x-test-busy": "here"})
        assert response.json() == {"site": "there", "bytes": 0, "hop": "1"}
        assert response.headers["x-headend-site"] == "there"

    def test_an_app_serving_a_peer_calls_its_own_models(self, client: httpx.Client) -> None:
        headers = {"x-test-busy": "here", "x-test-call": "/v2/models/far/ready"}
        answer = client.post("/v1/moderations", headers=headers).json()
        assert answer["site"] == "there"
        assert answer["call"] == {"status": 200, "site": "there"}

    def test_a_hop_never_becomes_two(self, two: Any) -> None:
        """Site `here` serves a peer and needs `far`, which only `there` has: and does not ask on."""
        headers = {"x-test-call": "/v2/models/far/ready"}
        own = httpx.post(f"{two.here.url}/v1/moderations", headers=headers).json()
        assert own["call"] == {"status": 200, "site": "there"}
        peers = httpx.post(f"{two.here.peer_url}/v1/moderations", headers=headers).json()
        assert peers["hop"] == "1"
        assert peers["call"]["status"] == 503

    def test_a_hop_over_grpc_stays_here(self, two: Any) -> None:
        _, inputs = tensor(triton_grpc, 3)
        with triton_grpc.InferenceServerClient(two.here.door) as grpc:
            grpc.infer("echo", inputs, headers={"x-headend-hop": "1"})
            with pytest.raises(InferenceServerException, match="goes no further") as caught:
                grpc.infer("far", inputs, headers={"x-headend-hop": "1"})
        assert caught.value.status() == "StatusCode.UNAVAILABLE"


def _raw(base: str, method: str, path: str) -> httpx.Response:
    """Sends the path as it is spelt; clients tidy it up."""
    url = httpx.URL(base).copy_with(raw_path=path.encode())
    with httpx.Client() as client:
        return client.request(method, url)
