"""Servers that behave as well or as badly as a test says, over HTTP and gRPC."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from loadtests import inputs
from serving.apps.review import verdict
from serving.apps.review.policy_file import PolicyFile

SPOKEN = inputs.get("mandarin-news").payloads[0].text
SAFE, UNSAFE = [0.9, 0.1], [0.1, 0.9]
HEADERS = {"x-headend-site": "edge", "x-envoy-attempt-count": "2"}


@dataclass
class Seen:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Door:
    """What the server does next."""

    address: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: dict(HEADERS))
    body: bytes | None = None
    """None: the right answer."""
    code: grpc.StatusCode | None = None
    before: Callable[[], Any] = lambda: None
    cut: bool = False
    """The connection ends instead of an answer."""
    seen: list[Seen] = field(default_factory=list)


def transcription(text: str) -> bytes:
    items = [{"id": 0, "word": text, "text": text, "start": 0.1, "end": 4.0}]
    answer = {"text": text, "language": "chinese", "duration": 5.0, "words": items, "segments": items}
    return json.dumps(answer).encode()


def moderation(body: bytes) -> bytes:
    text = json.loads(body)["input"]
    result = verdict.judge(PolicyFile().current(), [verdict.Text(0, text)], [])
    answer = {"id": "modr-1", "model": "review", "results": [result.model_dump(mode="json", by_alias=True)]}
    return json.dumps(answer).encode()


def inference(rows: list[float]) -> tuple[bytes, dict[str, str]]:
    content = np.array(rows, np.float32).tobytes()
    output = {
        "name": "outputs",
        "datatype": "FP32",
        "shape": [1, 2],
        "parameters": {"binary_data_size": len(content)},
    }
    head = json.dumps({"model_name": "open-nsfw", "model_version": "1", "outputs": [output]}).encode()
    return head + content, {"Inference-Header-Content-Length": str(len(head))}


def right(path: str, body: bytes) -> tuple[bytes, dict[str, str]]:
    if path == "/v1/audio/transcriptions":
        assert b"verbose_json" in body
        assert inputs.get("mandarin-news").payloads[0].content in body
        return transcription(SPOKEN), {}
    if path == "/v1/moderations":
        return moderation(body), {}
    assert path == "/v2/models/open-nsfw/infer"
    return inference(SAFE)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    door: Door

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        door = self.door
        door.seen.append(Seen(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        door.before()
        if door.cut:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        content, headers = right(self.path, body) if door.body is None else (door.body, {})
        self.send_response(door.status)
        for name, value in {"content-type": "application/json", **headers, **door.headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    def __init__(self, door: Door) -> None:
        self.door = door

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:
        door = self.door
        door.seen.append(Seen(request.model_name, dict(context.invocation_metadata()), b""))
        door.before()
        metadata = tuple(door.headers.items())
        if door.code:
            context.set_trailing_metadata(metadata)
            context.abort(door.code, "the door says no")
        context.send_initial_metadata(metadata)
        rows = SAFE if door.body is None else UNSAFE
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1")
        answer.outputs.add(name="outputs", datatype="FP32", shape=[1, 2])
        answer.raw_output_contents.append(np.array(rows, np.float32).tobytes())
        return answer


@contextmanager
def over_http() -> Iterator[Door]:
    door = Door()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneDoor", (Handler,), {"door": door}))
    server.daemon_threads = True
    door.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield door
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def over_grpc() -> Iterator[Door]:
    door = Door()
    server = grpc.server(futures.ThreadPoolExecutor(8))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Servicer(door), server)
    door.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield door
    finally:
        server.stop(0).wait()
