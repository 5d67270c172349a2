"""From what Triton and Envoy count to one site's pools."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving.fleet import Fleet
from serving.router.telemetry import door, triton
from serving.router.telemetry.facts import PoolFacts
from serving.router.telemetry.meter import Meter
from serving.router.view import FleetView, LocalPorts, Pool

FLEET = """
fleet: two
models: {echo: {}, far: {}}
apps: {review: {}}
sites:
  a: {front_door: "127.0.0.1:18201", models: [echo]}
  b: {front_door: "127.0.0.1:18211", models: [far], apps: []}
"""
ECHO, FAR, REVIEW = Pool("model", "echo"), Pool("model", "far"), Pool("app", "review")
FACTS = {
    ECHO: PoolFacts(version="1" * 64, instances=2, max_batch=4, room=16),
    REVIEW: PoolFacts(version="0.1", instances=2, room=10),
}


@pytest.fixture
def view() -> FleetView:
    ports = LocalPorts(1001, 1002, {"review": 1004}, 1005, agent=1006)
    return FleetView.of(Fleet.parse(FLEET, where="here"), "a", ports)


def duration(count: int, ns: float) -> dict[str, int]:
    return {"count": count, "ns": int(ns)}


def statistics(requests: int, *, executions: int, rows: int, queue_ms: float, infer_ms: float) -> bytes:
    """Triton's, of `requests` of one row each, in `executions` of so many `rows`."""
    per_request = duration(requests, requests * infer_ms * 1e6)
    parts = {
        "compute_input": duration(requests, 0),
        "compute_infer": per_request,
        "compute_output": duration(requests, 0),
    }
    model: dict[str, Any] = {
        "name": "echo",
        "version": "1",
        "inference_count": requests,
        "execution_count": executions,
        "inference_stats": {
            "success": duration(requests, requests * (queue_ms + infer_ms) * 1e6),
            "fail": duration(0, 0),
            "queue": duration(requests, requests * queue_ms * 1e6),
            **parts,
        },
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": duration(executions, 0),
                "compute_infer": duration(executions, executions * infer_ms * 1e6),
                "compute_output": duration(executions, 0),
            }
        ],
    }
    return json.dumps({"model_stats": [model]}).encode()


METRICS = """# TYPE nv_inference_request_failure counter
nv_inference_request_failure{model="echo",reason="CANCELED",version="1"} 50
nv_inference_request_failure{model="echo",reason="REJECTED",version="1"} %d
nv_inference_request_success{model="echo",version="1"} 7
nv_inference_pending_request_count{model="echo",version="1"} %d
"""
READY = b'[{"name": "echo", "version": "1", "state": "READY"}]'


def test_a_models_load_and_times(view):
    meter = Meter(view.pools, FACTS)
    for second in range(9):
        done = 1000 + 80 * second
        reading = triton.parse(
            statistics(done, executions=done // 4, rows=4, queue_ms=5, infer_ms=20),
            READY,
            METRICS % (30 + second, 1),
        )
        meter.take_triton(float(second), reading)
    echo = meter.pools()["model.echo"]
    assert echo.ready
    assert echo.answered == pytest.approx(80)
    assert echo.errors == pytest.approx(1), "those that a client has left are not errors"
    assert echo.in_flight == pytest.approx(80 * 0.025), "Little's law"
    assert echo.queue_ms == pytest.approx(5)
    assert echo.service_ms == pytest.approx(20)
    assert echo.by_batch[4].executions == pytest.approx(20)
    assert echo.by_batch[4].mean_ms == pytest.approx(20)
    assert echo.by_batch[4].cv2 == pytest.approx(0, abs=1e-6)
    assert echo.capacity == pytest.approx(2 * 4 / 0.020), "not from summed compute time over requests"


def test_what_clients_gave_up_does_not_make_a_site_look_fast(view):
    """Triton counts as done, in next to no time, what its models answer with `the client has gone`."""
    meter = Meter(view.pools, FACTS)
    for second in range(9):
        worked, gone = 20 * second, 30 * second
        raw = json.loads(statistics(worked + gone, executions=worked + gone, rows=1, queue_ms=5, infer_ms=20))
        (model,) = raw["model_stats"]
        for times in (model["inference_stats"], model["batch_stats"][0]):
            times["compute_infer"]["ns"] = worked * 20e6
        unworked = f"""
headend_unworked_requests{{model="echo"}} {gone}
headend_unworked_rows{{model="echo"}} {gone}
headend_unworked_executions{{model="echo",rows="1"}} {gone}
"""
        meter.take_triton(
            float(second), triton.parse(json.dumps(raw).encode(), READY, METRICS % (0, 1) + unworked)
        )
    echo = meter.pools()["model.echo"]
    assert echo.answered == pytest.approx(20)
    assert echo.queue_ms == pytest.approx(5)
    assert echo.service_ms == echo.by_batch[1].mean_ms == pytest.approx(20)
    assert echo.capacity == pytest.approx(2 / 0.020)


def test_a_triton_that_does_not_answer_is_not_ready_and_its_times_stay_known(view):
    meter = Meter(view.pools, FACTS)
    for second in range(9):
        raw = statistics(80 * second, executions=20 * second, rows=4, queue_ms=5, infer_ms=20)
        meter.take_triton(float(second), triton.parse(raw, READY, METRICS % (0, 0)))
    meter.take_triton(9.0, None)
    echo = meter.pools()["model.echo"]
    assert not echo.ready
    assert echo.by_batch[4].mean_ms == pytest.approx(20)
    raw = statistics(2, executions=2, rows=1, queue_ms=0, infer_ms=30)
    meter.take_triton(50.0, triton.parse(raw, READY, METRICS % (0, 0)))
    echo = meter.pools()["model.echo"]
    assert echo.ready
    assert echo.answered == pytest.approx(2 / 42, rel=1e-3), "a restart is no negative rate"


def test_an_agent_that_starts_knows_at_once_what_its_triton_has_taken_so_far(view):
    """Else other sites would send it nothing more until it has measured anew."""
    meter = Meter(view.pools, FACTS)
    raw = statistics(80, executions=20, rows=4, queue_ms=5, infer_ms=20)
    meter.take_triton(0.0, triton.parse(raw, READY, METRICS % (0, 0)))
    echo = meter.pools()["model.echo"]
    assert (echo.answered, echo.by_batch[4].executions) == (0, 0)
    assert echo.service_ms == echo.by_batch[4].mean_ms == pytest.approx(20)


def test_one_slow_execution_is_not_all_that_is_known_of_an_idle_site(view):
    """It counts as one of the last eight, not as one of the last half minute."""
    meter = Meter(view.pools, FACTS)
    done, ns = 0, 0.0
    seen = []
    for second in range(200):
        took = 20 if second < 20 else 100 if second == 100 else 0
        done, ns = done + bool(took), ns + took * 1e6
        raw = json.loads(statistics(done, executions=done, rows=1, queue_ms=0, infer_ms=0))
        (model,) = raw["model_stats"]
        for times in (model["inference_stats"], model["batch_stats"][0]):
            times["compute_infer"]["ns"] = int(ns)
        meter.take_triton(float(second), triton.parse(json.dumps(raw).encode(), READY, METRICS % (0, 0)))
        echo = meter.pools()["model.echo"]
        assert echo.by_batch[1].mean_ms == echo.service_ms
        seen.append(echo.service_ms)
    assert seen[:100] == pytest.approx([20] * 100)
    assert seen[100:] == pytest.approx([30] * 100)


@pytest.mark.parametrize("broken", [b"", b"[]", b"<html>", b'{"model_stats": [{"name": "echo"}]}'])
def test_what_is_not_tritons_is_refused(broken):
    with pytest.raises(ValueError):
        triton.parse(broken, READY, "")


def envoy(view: FleetView, **values: float) -> door.DoorReading:
    stats = [{"name": name, "value": value} for name, value in values.items()]
    return door.parse(json.dumps({"stats": [*stats, {"histograms": {}}]}).encode(), view)


def test_what_clients_bring_is_counted_by_class_and_a_retry_is_no_second_request(view):
    meter = Meter(view.pools, FACTS)
    for second in range(6):
        route = "vhost.front-door.route.model"
        meter.take_door(
            float(second),
            envoy(
                view,
                **{
                    f"{route}.echo.live.upstream_rq_completed": 100 + 10 * second,
                    f"{route}.echo.live.upstream_rq_total": 100 + 15 * second,
                    f"{route}.far.batch.upstream_rq_completed": 2 * second,
                    "vhost.peer.route.model.echo.live.upstream_rq_completed": 1000 * second,
                    "cluster.model.echo.http.upstream_rq_total": 10 * second,
                    "cluster.model.echo.grpc.upstream_rq_total": 10 * second,
                    "cluster.model.echo.grpc.upstream_cx_tx_bytes_total": 6000 * second,
                    "cluster.model.echo.grpc.upstream_cx_rx_bytes_total": 400 * second,
                    "cluster.model.echo.http.local.upstream_rq_total": 70 * second,
                },
            ),
        )
    pools = meter.pools()
    assert pools["model.echo"].offered == {"live": 10}
    assert pools["model.echo"].request_bytes == 300
    assert pools["model.echo"].response_bytes == 20
    assert pools["model.far"].offered == {"batch": 2}, "asked for here, answered elsewhere"
    assert not pools["model.far"].ready


def test_the_most_that_a_pool_had_is_of_the_last_seconds(view):
    meter = Meter(view.pools, FACTS)
    own = "cluster.model.echo"
    had = [(0, 0), (30, 4), (2, 1), (0, 0)]
    peaks = []
    for second, (of_clients, of_sites) in enumerate(had + [(1, 0)] * 6):
        values = {
            f"{own}.grpc.upstream_rq_active": of_clients,
            f"{own}.http.local.upstream_rq_active": of_sites,
            # What other sites have of this door's.
            f"{own}.live.upstream_rq_active": 50,
            "cluster.model.far.live.upstream_rq_active": 50,
        }
        meter.take_door(float(second), envoy(view, **values))
        peaks.append(meter.pools()["model.echo"].peak)
    assert peaks == [0, 34, 34, 34, 34, 34, 3, 1, 1, 1]
    meter.take_door(9.5, None)
    assert meter.pools()["model.echo"].peak == 1, "what could not be seen is not 0"


def test_an_apps_queue_is_what_its_replicas_have_beyond_their_places(view):
    meter = Meter(view.pools, FACTS)
    own = "cluster.app.review.http.endpoint.127.0.0.1_1004"
    for half in range(20):
        meter.take_door(
            half / 2,
            envoy(
                view,
                **{
                    f"{own}.rq_total": 500 + 3 * half,
                    f"{own}.rq_error": half,
                    f"{own}.rq_active": 4,
                    f"{own}.healthy": 1,
                    "cluster.app.review.http.endpoint.127.0.0.1_1999.rq_active": 99,
                    "cluster.app.review.http.local.upstream_rq_total": 5 * half,
                    "cluster.app.review.http.local.upstream_rq_5xx": 2 * half,
                    "cluster.app.review.http.local.upstream_rq_active": 1,
                    # Other sites' probes, some of them while the app is not ready.
                    "vhost.peer.route.app.review.questions.upstream_rq_total": 4 * half,
                    "vhost.peer.route.app.review.questions.upstream_rq_5xx": 2 * half,
                },
            ),
        )
    review = meter.pools()["app.review"]
    assert review.ready
    assert review.answered == pytest.approx(6)
    assert review.errors == pytest.approx(2)
    assert review.in_flight == pytest.approx(5)
    assert review.peak == 5
    assert review.queue_ms == pytest.approx(3 / 6 * 1000)
    assert review.service_ms == pytest.approx(2 / 6 * 1000, rel=1e-3)
    assert review.capacity == pytest.approx(6, rel=1e-3)
    for second in range(10, 20):
        meter.take_door(float(second), envoy(view, **{f"{own}.rq_total": 557, f"{own}.healthy": 1}))
    idle = meter.pools()["app.review"]
    assert (idle.answered, idle.in_flight) == (0, 0)
    assert idle.capacity == review.capacity, "what it could do while it was asked"


def test_a_probe_that_is_counted_a_moment_later_makes_no_load(view):
    """Envoy counts one on its route and in its cluster, not at once: the difference of both goes back."""
    meter = Meter(view.pools, FACTS)
    for half in range(30):
        found = {
            "cluster.app.review.http.local.upstream_rq_total": 10_000 + half,
            "vhost.peer.route.app.review.questions.upstream_rq_total": 10_000 + half - half % 2,
        }
        meter.take_door(half / 2, envoy(view, **found))
        assert meter.pools()["app.review"].answered <= 2, "one, at first over half a second"


def test_updates_that_envoy_took_and_refused_are_added_up(view):
    reading = envoy(
        view,
        **{
            "cluster.model.echo.http.update_success": 3,
            "cluster.app.review.http.update_success": 2,
            "cluster.model.echo.http.update_rejected": 1,
            "http.front-door.rds.front-door.update_failure": 1,
        },
    )
    assert reading.counters["taken"] == 5
    assert reading.counters["refused"] == 2


def test_what_is_under_way_elsewhere_is_of_the_time_that_a_summary_tells_of(view):
    meter = Meter(view.pools, FACTS)
    at_b = "cluster.model.far.at.b"

    def look(at: float, active: float, healthy: float = 3) -> None:
        members = {f"{at_b}.membership_healthy": healthy, f"{at_b}.membership_total": 3}
        meter.take_door(at, envoy(view, **{f"{at_b}.upstream_rq_active": active}, **members))

    for second in range(20):
        look(float(second), 4 if second <= 12 else 9)
    assert meter.under_way({"b": 12.0}) == {"model.far": {"b": 4}}
    assert meter.under_way({"b": 19.0}) == {"model.far": {"b": 9}}
    assert meter.under_way({"b": 1.0}) == {"model.far": {"b": 9}}, "nobody looked then: as it was known"
    look(20.0, 9, healthy=2)
    assert meter.under_way({"b": 19.0}) == {}, "Envoy does not reach it"
    look(21.0, 0)
    meter.take_door(22.0, None)
    assert set(meter.under_way({"b": 21.0})["model.far"]) == {"b"}, "Envoy did not answer: as it was"


def test_what_goes_to_a_single_site_is_carried_and_measured(view):
    meter = Meter(view.pools, FACTS)
    for second in range(4):
        counts = {"rq_total": 10, "cx_tx_bytes_total": 1000, "cx_rx_bytes_total": 200}
        grown = {f"cluster.model.echo.at.b.upstream_{name}": second * one for name, one in counts.items()}
        meter.take_door(float(second), envoy(view, **grown))
    echo = meter.pools()["model.echo"]
    assert (echo.request_bytes, echo.response_bytes) == (100, 20)
