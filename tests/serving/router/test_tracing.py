"""One request, one trace: front door, app, front door, the other site's peer listener, Triton.

Everything is real: two Envoys, an app, a Triton, and a collector that spans are posted to.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from collector import Collector, Span, collecting
from router_parts import Part
from waiting import free_ports, until

from models.errors import DeclarationError
from serving.apps.config import AppsConfig
from serving.fleet import Fleet
from serving.router import envoy
from serving.router.view import FleetView, LocalPorts
from serving.triton import server

HERE = Path(__file__).parent
FLEET = """
fleet: traced
models: {{echo: {{}}}}
apps: {{review: {{}}}}
tracing: {{endpoint: "{collector}", sampling: 0, inside_triton: true}}
sites:
  near: {{front_door: "127.0.0.1:{near}", peer: "127.0.0.1:{near_peer}", models: []}}
  far: {{front_door: "127.0.0.1:{far}", peer: "127.0.0.1:{far_peer}", apps: []}}
"""
TRACES, CLIENT = [f"0af7651916cd43dd8448eb211c80319{each}" for each in range(5)], "b7ad6b7169203331"


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[str]:
    """The front door of the site that has the app and no models."""
    root = tmp_path_factory.mktemp("traced")
    names = ("near", "near_peer", "far", "far_peer")
    ports = dict(zip(names, free_ports(4), strict=True))
    fleet = Fleet.parse(FLEET.format(collector=collector.url, **ports), where="the test's fleet")
    parts = [*_near(fleet, root), *_far(fleet, root)]
    try:
        for part in parts:
            part.start()
        for part in parts:
            part.wait()
        yield f"http://127.0.0.1:{ports['near']}"
    finally:
        for part in parts:
            part.end()
        for part in parts:
            part.wait_for_end()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


def _near(fleet: Fleet, root: Path) -> Iterator[Part]:
    port, status, admin = free_ports(3)
    config = AppsConfig.of(fleet, "near", run_dir=root, port=status, app_ports={"review": port})
    path = root / "app.json"
    path.write_text(config.model_dump_json())
    yield Part(
        [sys.executable, str(HERE / "traced_app.py"), str(path)],
        f"http://127.0.0.1:{port}/-/ready/review",
        root / "app.log",
    )
    yield _envoy(FleetView.of(fleet, "near", LocalPorts(0, 0, {"review": port}, admin)), root / "near")


def _far(fleet: Fleet, root: Path) -> Iterator[Part]:
    http, grpc, metrics, admin = free_ports(4)
    repository = root / "models"
    shutil.copytree(HERE / "models" / "echo", repository / "echo")
    argv, env = server.command(
        repository, http, grpc, metrics, ["echo"], root / "runtime", tracing=fleet.tracing
    )
    yield Part(argv, f"http://127.0.0.1:{http}/v2/health/ready", root / "triton.log", env)
    yield _envoy(FleetView.of(fleet, "far", LocalPorts(http, grpc, {}, admin)), root / "far")


def _envoy(view: FleetView, out: Path) -> Part:
    envoy.write_config(view, out, access_log=out / "access.log")
    address = view.local.front_door
    return Part(
        envoy.command(out, workers=1), f"http://{address.ip}:{address.port}/readyz", out / "envoy.log"
    )


def _lineage(spans: list[Span]) -> list[tuple[str, str]]:
    """Service and name of each span, from Triton's work up to the one right below the client's own."""
    by_id = {span.id: span for span in spans}
    found = [span for span in spans if span.name == "compute"]
    while found and found[-1].parent in by_id:
        found.append(by_id[found[-1].parent])
    return [(span.service, span.name) for span in found]


WAY = [
    ("headend-triton", "compute"),
    ("headend-triton", "echo"),
    ("headend-triton", "InferRequest"),
    ("headend-front-door", "echo/live/far"),
    ("headend-front-door", "echo/live/far"),
    ("headend-front-door", "echo/live/far"),
    ("headend-front-door", "echo/live/near"),
    ("headend-review", "echo"),
    ("headend-review", "review/near"),
    ("headend-front-door", "review/live/near"),
    ("headend-front-door", "review/live/near"),
]
"""Upwards. A front door makes two spans: of the request that it got, and of what it asked for."""


@pytest.fixture(scope="module")
def spans(door: str, collector: Collector) -> list[Span]:
    """Of requests that nobody asked to trace, and of one that its client traces."""
    for flags in ("", "00"):
        trace = f"{flags or 'ff':0>32}"
        headers = {"traceparent": f"00-{trace}-{CLIENT}-{flags}"} if flags else {}
        assert httpx.post(f"{door}/v1/moderations", headers=headers, json={}, timeout=30).is_success
    # Envoy posts its spans every five seconds. Triton 2.51 loses a batch of its own now and then (12 of 110
    # on a busy machine, never one of the others'): what is then asked anew leaves a whole trace.
    for trace in TRACES:
        headers = {"traceparent": f"00-{trace}-{CLIENT}-01", "x-headend-class": "live"}
        answer = httpx.post(f"{door}/v1/moderations", headers=headers, json={}, timeout=30)
        assert answer.json() == [0, 1, 2]
        until(lambda trace=trace: len(_ours(collector.trace(trace))) >= len(WAY) - 3, "our spans", 20)
        with suppress(AssertionError):
            until(lambda trace=trace: len(_lineage(collector.trace(trace))) >= len(WAY), "Triton's spans", 3)
            break
    return collector.spans


def _ours(spans: list[Span]) -> list[Span]:
    return [span for span in spans if span.service != "headend-triton"]


@pytest.mark.e2e
def test_a_trace_leads_from_the_client_to_triton_and_through_both_sites(spans: list[Span]) -> None:
    last = [each for each in TRACES if any(span.trace == each for span in spans)][-1]
    found = [span for span in spans if span.trace == last]
    assert _lineage(found) == WAY
    first = next(span for span in found if span.parent == CLIENT)
    assert {key: value for key, value in first.tags.items() if key.startswith("headend.")} == {
        "headend.site": "near",
        "headend.pool": "review",
        "headend.class": "live",
        "headend.upstream_site": "near",
    }


@pytest.mark.e2e
def test_what_nobody_asked_to_trace_leaves_no_span(spans: list[Span]) -> None:
    # What was traced after them has arrived; so would they have. Triton does not look at the sampling flag
    # (see `Tracing.inside_triton`).
    assert {span.trace for span in _ours(spans)} <= set(TRACES)


@pytest.mark.parametrize(
    "url", ["https://a:1", "a:4318", "http://", "http://a/v1/traces", "http://u@a", "http://a:x"]
)
def test_a_collector_that_spans_cannot_be_posted_to_is_refused(url: str) -> None:
    text = f"{{fleet: f, models: {{}}, tracing: {{endpoint: '{url}'}}, sites: {{a: {{front_door: 'a:1'}}}}}}"
    with pytest.raises(DeclarationError, match=r"tracing\.endpoint"):
        Fleet.parse(text, where="here")


def test_the_port_of_otlp_goes_without_saying() -> None:
    text = "{fleet: f, models: {}, tracing: {endpoint: 'http://[::1]'}, sites: {a: {front_door: 'a:1'}}}"
    found = Fleet.parse(text, where="here").tracing
    assert found
    assert (found.url, found.address) == ("http://[::1]:4318/v1/traces", ("::1", 4318))
