"""A small model (text direction, 0.6 MB): what each layer between a client and ONNX Runtime costs.

ONNX Runtime in process, Triton directly, through an Envoy that only forwards, and through the front door
(gRPC and HTTP each), at one and at eight in flight. Clients are `tritonclient`'s, one per worker thread, with
binary tensors. Triton has a copy of the model for every core.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from loadtests.bench import compare, report
from loadtests.bench.bare_envoy import BareEnvoy, bare_envoy
from loadtests.bench.fleet import BenchSite
from loadtests.bench.machine import Watch
from models.bundle import Bundle

MODEL, INPUT = "ppocr-cls", "x"
IN_FLIGHT = (1, 8)


def run(site: BenchSite, bundle: Bundle, out: Path, *, rounds: int = 7, requests: int = 400) -> None:
    """Measure on `site` and publish `small-model.json` in `out`."""
    with bare_envoy(site.triton_http, site.triton_grpc) as bare:
        _run(site, bare, bundle, out, rounds, requests)


def _run(site: BenchSite, bare: BareEnvoy, bundle: Bundle, out: Path, rounds: int, requests: int) -> None:
    picture = np.random.default_rng(1).standard_normal((1, 3, 48, 192), dtype=np.float32)
    variants = {
        "onnxruntime in process": partial(_in_process, bundle.graph("model", "fp32"), picture),
        "triton gRPC": partial(_triton, triton_grpc, site.triton_grpc, picture),
        "triton HTTP": partial(_triton, triton_http, site.triton_http, picture),
        "bare Envoy gRPC": partial(_triton, triton_grpc, bare.grpc, picture),
        "bare Envoy HTTP": partial(_triton, triton_http, bare.http, picture),
        "front door gRPC": partial(_triton, triton_grpc, site.front_door, picture),
        "front door HTTP": partial(_triton, triton_http, site.front_door, picture),
    }
    own = (*site.pids, bare.pid)
    watch = Watch.start(own)
    figures: dict[str, Any] = {"model": MODEL, "rounds": rounds, "requests_per_turn": requests}
    for in_flight in IN_FLIGHT:
        found = compare.run(variants, in_flight=in_flight, rounds=rounds, requests=requests, own=own)
        named = {variant.name: variant for variant in found}
        report.console.print(report.latency_table(f"{in_flight} in flight", found, named["triton gRPC"]))
        figures[f"in_flight_{in_flight}"] = {
            **{variant.name: variant.as_dict() for variant in found},
            "ratios": {
                "front door / triton, gRPC p50": _ratio(named, "front door gRPC", "triton gRPC"),
                "front door / triton, HTTP p50": _ratio(named, "front door HTTP", "triton HTTP"),
                "bare Envoy / triton, gRPC p50": _ratio(named, "bare Envoy gRPC", "triton gRPC"),
                "bare Envoy / triton, HTTP p50": _ratio(named, "bare Envoy HTTP", "triton HTTP"),
                "triton gRPC / onnxruntime, requests per second": named["triton gRPC"].ratio(
                    named["onnxruntime in process"], lambda turn: turn.throughput
                ),
            },
        }
    report.publish("small-model", out, watch.stop(), figures)


def _ratio(named: dict[str, compare.Variant], a: str, b: str) -> tuple[float, float, float]:
    return named[a].ratio(named[b], lambda turn: turn.p50)


def _in_process(graph: Path, picture: np.ndarray[Any, Any]) -> compare.Call:
    """One session per worker, as many threads as the machine has cores: what a service would do by itself."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return partial(session.run, None, {INPUT: picture})


def _triton(client: Any, address: str, picture: np.ndarray[Any, Any]) -> compare.Call:
    connection = client.InferenceServerClient(address)
    tensor = client.InferInput(INPUT, list(picture.shape), "FP32")
    tensor.set_data_from_numpy(picture)
    return partial(connection.infer, MODEL, [tensor])
