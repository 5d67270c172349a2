"""The agent's metrics for Prometheus, read from it whenever they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.router.telemetry.message import Reason

if TYPE_CHECKING:
    from serving.router.agent.agent import Agent


class AgentCollector(Collector):
    """Of one agent."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def collect(self) -> Iterator[Metric]:
        """Every metric as it is now."""
        yield from self._plan()
        yield from self._identity()
        yield from self._sites()
        yield from self._pools()

    def _plan(self) -> Iterator[Metric]:
        agent, writer = self._agent, self._agent.writer
        share = GaugeMetricFamily(
            "headend_plan_share",
            "Share of this front door's load of a pool and class that a site gets.",
            labels=["pool", "class", "site"],
        )
        for (pool, class_), row in writer.view.plan.items():
            for site, value in row.items():
                share.add_metric([f"{pool.kind}.{pool.name}", class_, site], value)
        yield share
        yield _gauge("headend_plan_seconds", "Time that the last plan took.", agent.plan_seconds)
        if agent.plan_age_s is not None:
            yield _gauge("headend_plan_age_seconds", "Time since the last plan.", agent.plan_age_s)
        yield _counter("headend_plans", "Plans computed.", agent.plans)
        yield _counter("headend_plan_failures", "Plans that failed.", agent.plan_failures)
        yield _counter("headend_updates_written", "Plans written for Envoy.", writer.updates_written)
        yield _counter("headend_updates_refused", "Updates that Envoy refused.", writer.updates_refused)
        yield _counter("headend_updates_missed", "Updates not taken by Envoy in time.", writer.updates_missed)

    def _identity(self) -> Iterator[Metric]:
        remaining = self._agent.certificate_remaining_s
        family = GaugeMetricFamily(
            "headend_certificate_remaining_seconds",
            "Time until this site's certificate expires; missing where it has none.",
        )
        if remaining is not None:
            family.add_metric([], remaining)
        yield family

        issuers = self._agent.issuers
        yield _by(
            "headend_issuer_keys_age_seconds",
            "Time since the keys of an issuer were fetched, or since the agent started.",
            issuers.ages_s,
            label="issuer",
        )
        failed = CounterMetricFamily(
            "headend_issuer_fetches_failed", "Fetches that brought no keys.", labels=["issuer"]
        )
        for issuer in issuers.ages_s:
            failed.add_metric([issuer], issuers.failures[issuer])
        yield failed

    def _sites(self) -> Iterator[Metric]:
        agent = self._agent
        observed = agent.observed()
        others = {site: seen for site, seen in observed.items() if site != agent.config.view.local.name}
        stale = sum(seen.is_stale for seen in others.values())
        yield _gauge("headend_sites_stale", "Other sites that were not heard of lately.", stale)
        yield _by(
            "headend_summary_age_seconds",
            "Time since a site's last summary came.",
            {site: seen.age_s for site, seen in others.items()},
        )
        yield _by(
            "headend_site_rtt_seconds",
            "Round trip to a site.",
            {site: seen.rtt_s for site, seen in others.items() if seen.rtt_s is not None},
        )
        yield _by(
            "headend_site_bandwidth_bytes_per_second",
            "Bandwidth to a site; missing where it is too fast to be measured.",
            {site: seen.bytes_per_s for site, seen in others.items() if seen.bytes_per_s is not None},
        )
        failed = CounterMetricFamily(
            "headend_questions_failed", "Questions to a site that were not answered.", labels=["site"]
        )
        for site in others:
            failed.add_metric([site], agent.exchange.failures[site])
        yield failed
        refused = CounterMetricFamily(
            "headend_summaries_refused", "Messages and summaries that were refused.", labels=["reason"]
        )
        for reason in get_args(Reason):
            refused.add_metric([reason], agent.board.refused[reason])
        yield refused

    def _pools(self) -> Iterator[Metric]:
        """This site's own, as others are told."""
        own = self._agent.observed()[self._agent.config.view.local.name].summary
        pools = own.pools if own else {}
        offered = GaugeMetricFamily(
            "headend_pool_offered", "Requests/s that clients bring to this door.", labels=["pool", "class"]
        )
        for key, pool in pools.items():
            for class_, rate in pool.offered.items():
                offered.add_metric([key, class_], rate)
        yield offered
        for name, text, values in (
            ("answered", "Requests/s that this site answers.", {k: p.answered for k, p in pools.items()}),
            ("errors", "Requests/s that this site fails.", {k: p.errors for k, p in pools.items()}),
            ("in_flight", "Requests that this site has.", {k: p.in_flight for k, p in pools.items()}),
            ("ready", "Whether this site answers.", {k: float(p.ready) for k, p in pools.items()}),
            ("queue_seconds", "Mean wait.", {k: _seconds(p.queue_ms) for k, p in pools.items()}),
            ("service_seconds", "Mean time of work.", {k: _seconds(p.service_ms) for k, p in pools.items()}),
            ("capacity", "Requests/s that this site can answer.", {k: p.capacity for k, p in pools.items()}),
        ):
            known = {key: value for key, value in values.items() if value is not None}
            yield _by(f"headend_pool_{name}", text, known, label="pool")


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _by(name: str, text: str, values: Mapping[str, float], *, label: str = "site") -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
