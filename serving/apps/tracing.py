"""An app's part of a trace: a span for each request, between the front door's span and those of its models.

Spans are made where the front door says so (`traceparent` with its sampling flag) and nowhere else, so
probes leave none. They are posted in the background; when the collector does not take them, they are dropped.
opentelemetry-instrumentation-asgi was not taken: it is a pre-release, and makes a span of every chunk of an
upload.
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.apps.config import AppsConfig
from serving.fleet import AppName


def tracer(name: AppName, config: AppsConfig) -> Tracer | None:
    """What makes the spans of the app `name`; None where the fleet declares no tracing."""
    if config.tracing is None:
        return None
    # Here, because it brings an HTTP client and a thread along, which an app without tracing does without.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

    resource = Resource.create({"service.name": f"headend-{name}", "service.instance.id": config.site})
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF), resource=resource)
    exporter = OTLPSpanExporter(endpoint=config.tracing.url, timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    return provider.get_tracer("headend.apps")


class RequestSpan:
    """ASGI middleware: the span of a request, current while the app works on it.

    Attributes are those of OpenTelemetry's HTTP server spans
    (https://opentelemetry.io/docs/specs/semconv/http/http-spans/).
    """

    def __init__(self, app: ASGIApp, tracer: Tracer, name: str) -> None:
        self._app, self._tracer, self._name = app, tracer, name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Work on one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        parent = TraceContextTextMapPropagator().extract(dict(Headers(scope=scope)))
        attributes = {"http.request.method": scope["method"], "url.path": scope["path"]}
        with self._tracer.start_as_current_span(
            self._name, context=parent, kind=SpanKind.SERVER, attributes=attributes
        ):
            await self._app(scope, receive, _noting_status(send))


def _noting_status(send: Send) -> Send:
    span = trace.get_current_span()

    async def noting(message: Message) -> None:
        if message["type"] == "http.response.start":
            span.set_attribute("http.response.status_code", message["status"])
            if message["status"] >= 500:
                span.set_status(StatusCode.ERROR)
        await send(message)

    return noting
