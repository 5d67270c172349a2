"""Where spans of requests go (OpenTelemetry)."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from models.schema import Strict

OTLP_PORT, TRACES_PATH = 4318, "/v1/traces"
"""Of OTLP over HTTP, https://opentelemetry.io/docs/specs/otlp/#otlphttp-request."""


def _collector(url: str) -> str:
    found = re.fullmatch(r"http://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(?::(\d{1,5}))?/?", url)
    if not found:
        raise ValueError(
            f"{url} is not of the form http://HOST:PORT, where a collector takes OTLP over HTTP; "
            "what leaves the site is encrypted by a collector at the site"
        )
    return f"http://{found[1]}:{found[2] or OTLP_PORT}"


class Tracing(Strict):
    """Spans of front doors, apps and Triton, for a collector of OTLP over HTTP; none unless declared."""

    endpoint: Annotated[str, AfterValidator(_collector)]
    """`http://HOST:PORT` of the collector; the port is 4318 unless given, the path always `/v1/traces`."""
    sampling: float = Field(default=0.01, ge=0, le=1)
    """Share of the requests that are traced, unless the request itself says (`traceparent`): a client that
    traces gets its trace continued. 0.01: a span costs a front door tens of microseconds."""
    inside_triton: bool = False
    """Triton's own spans too: its queue, its backend's work. Triton 2.51 makes them of all requests, whatever
    `traceparent` says of sampling: have the collector drop what belongs to no kept trace (tail sampling), or
    sample everything."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.endpoint.removeprefix("http://").rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def url(self) -> str:
        """Where spans are posted."""
        return f"{self.endpoint}{TRACES_PATH}"
