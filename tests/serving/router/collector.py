"""A collector of OpenTelemetry spans: OTLP over HTTP, as protobuf (Envoy, Python) or JSON (Triton)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Span:
    service: str
    name: str
    trace: str
    """Hexadecimal, as `traceparent` has it."""
    id: str
    parent: str
    """Empty: it began the trace."""
    tags: dict[str, str]


@dataclass
class Collector:
    port: int = 0
    spans: list[Span] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def trace(self, trace: str) -> list[Span]:
        return [span for span in self.spans if span.trace == trace]


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces", self.path
            collector.spans += _spans(self.body(), self.headers["content-type"])
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def body(self) -> bytes:
            if length := self.headers["content-length"]:
                return self.rfile.read(int(length))
            # Chunked, as Envoy sends it.
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _spans(body: bytes, content_type: str) -> list[Span]:
    if content_type == "application/json":
        found = json.loads(body)
        return [
            _span(_tags(resource["resource"]), span, span["traceId"], span["spanId"], span["parentSpanId"])
            for resource in found["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]
    message = ExportTraceServiceRequest.FromString(body)
    return [
        _span(
            _tags(MessageToDict(resource.resource)),
            MessageToDict(span),
            *(each.hex() for each in (span.trace_id, span.span_id, span.parent_span_id)),
        )
        for resource in message.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _span(resource: dict[str, str], span: dict[str, Any], trace: str, own: str, parent: str) -> Span:
    return Span(resource["service.name"], span["name"], trace, own, parent, _tags(span))


def _tags(of: dict[str, Any]) -> dict[str, str]:
    return {each["key"]: str(next(iter(each["value"].values()))) for each in of.get("attributes", ())}
