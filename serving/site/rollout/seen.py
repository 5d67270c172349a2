"""What a roll-out sees of a site: Envoy's counters by endpoint, Triton's statistics, the judge's report.

Envoy: `/clusters?format=json` and `/stats` of its administration; Triton: the statistics extension of the
Open Inference Protocol. All on the loopback interface, all counters since a start of the part: callers take
differences.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpx

from models.errors import HeadendError
from serving.router.clusters import AGENT
from serving.router.view import LOOPBACK
from serving.site.rollout.judging import Compared, Served

_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Host:
    """One endpoint of one of Envoy's clusters."""

    cluster: str
    ip: str
    port: int
    requests: int
    errors: int
    active: int
    """Requests and streams in flight."""
    probed_unhealthy: bool


def hosts(admin: int) -> list[Host]:
    """Every endpoint that the Envoy with this administration port knows."""
    said = _get(f"http://{LOOPBACK}:{admin}/clusters", format="json")
    return [
        _host(str(cluster["name"]), host)
        for cluster in said.get("cluster_statuses", ())
        for host in cluster.get("host_statuses", ())
    ]


def _host(cluster: str, said: dict[str, Any]) -> Host:
    address = said["address"].get("socket_address", {})
    stats = {each["name"]: int(each.get("value", 0)) for each in said.get("stats", ())}
    return Host(
        cluster=cluster,
        ip=str(address.get("address", "")),
        port=int(address.get("port_value", 0)),
        requests=stats.get("rq_total", 0),
        errors=stats.get("rq_error", 0),
        active=stats.get("rq_active", 0),
        probed_unhealthy=bool(said.get("health_status", {}).get("failed_active_health_check")),
    )


def in_flight(admin: int, ports: Iterable[int]) -> int:
    """Requests and streams that this front door has in flight to `ports` of this machine."""
    wanted = set(ports)
    return sum(host.active for host in hosts(admin) if host.ip == LOOPBACK and host.port in wanted)


def led(admin: int) -> tuple[int, int]:
    """What this front door has ever led anywhere for clients and other sites, and has in flight now."""
    mine = [host for host in hosts(admin) if host.cluster != AGENT]
    return sum(host.requests for host in mine), sum(host.active for host in mine)


def answered(admin: int, ports: Iterable[int]) -> Served:
    """What `ports` of this machine have answered to this front door, hops of other sites included."""
    wanted = set(ports)
    mine = [host for host in hosts(admin) if host.ip == LOOPBACK and host.port in wanted]
    return Served(requests=sum(host.requests for host in mine), errors=sum(host.errors for host in mine))


def counters(admin: int, pattern: str) -> dict[str, int]:
    """Envoy's counters whose names match `pattern` (RE2)."""
    answer = _answer(f"http://{LOOPBACK}:{admin}/stats", filter=pattern, type="Counters")
    lines = (line.rpartition(": ") for line in answer.text.splitlines())
    return {name: int(value) for name, _, value in lines if name}


def served(admin: int, model: str, ports: tuple[int, int]) -> Served:
    """What one version has answered to this front door. `ports`: HTTP and gRPC of its Triton."""
    mine = [
        host
        for host in hosts(admin)
        if host.ip == LOOPBACK and host.port in ports and host.cluster.startswith(f"model.{model}.")
    ]
    said = _get(f"http://{LOOPBACK}:{ports[0]}/v2/models/{model}/stats")
    success = [each["inference_stats"]["success"] for each in said["model_stats"]]
    return Served(
        requests=sum(host.requests for host in mine),
        errors=sum(host.errors for host in mine),
        answers=sum(int(one["count"]) for one in success),
        total_ms=sum(int(one["ns"]) for one in success) / 1e6,
    )


def compared(judge_http: int) -> dict[str, Compared]:
    """What the judge has found so far, by model."""
    said = _get(f"http://{LOOPBACK}:{judge_http}/-/report")
    return {model: Compared.model_validate(report) for model, report in said.items()}


def _get(url: str, **parameters: str) -> dict[str, Any]:
    found: dict[str, Any] = _answer(url, **parameters).json()
    return found


def _answer(url: str, **parameters: str) -> httpx.Response:
    try:
        return httpx.get(url, params=parameters, timeout=_TIMEOUT_S, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise HeadendError(f"{url} does not answer: {error!r}", hint="See: headend status") from error
