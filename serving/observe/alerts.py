"""When to wake somebody: Prometheus' alerting rules (https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/).

`page`: clients are not being answered. `ticket`: nobody notices yet, but what carries the fleet has a fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from serving.observe.panel import PROBED

Json = dict[str, Any]

_LIVE = 'envoy_virtual_host="front-door", class="live"'
_FAILED = f'{_LIVE}, envoy_response_code_class="5"'


@dataclass(frozen=True)
class Alert:
    """One rule: what is wrong, for how long, and what to do about it."""

    name: str
    expr: str
    lasting: str
    severity: Literal["page", "ticket"]
    summary: str
    todo: str


def _rate(metric: str, labels: str) -> str:
    return f"sum by (fleet) (rate({metric}{{{labels}}}[1m]))"


ALERTS = (
    Alert(
        "HeadendLiveNotAnswered",
        f"{_rate('envoy_vhost_route_upstream_rq_xx', _FAILED)} "
        f"/ {_rate('envoy_vhost_route_upstream_rq_total', _LIVE)} > 0.01",
        "1m",
        "page",
        "More than 1% of live requests are not answered.",
        "Dashboard, first row: is a site lost, or is all capacity taken? Take load off, or bring sites back.",
    ),
    Alert(
        "HeadendPoolHasNoPlace",
        "min by (fleet, pool) (sum by (fleet, site, pool) (envoy_cluster_membership_healthy{"
        f'pool!="", {PROBED}}})) == 0',
        "30s",
        "page",
        "A front door knows no place that can answer {{ $labels.pool }}.",
        "headend status: which site should serve it, and why is it not ready?",
    ),
    Alert(
        "HeadendFrontDoorDown",
        'up{job="headend-envoy"} == 0',
        "15s",
        "page",
        "The front door of {{ $labels.site }} cannot be read.",
        "Its clients get no answer; other doors carry on. headend logs {{ $labels.site }} envoy.",
    ),
    Alert(
        "HeadendTritonDown",
        'up{job="headend-triton"} == 0',
        "1m",
        "ticket",
        "Triton of {{ $labels.site }} cannot be read; other sites answer for it.",
        "headend logs {{ $labels.site }} triton; the supervisor restarts it, backing off.",
    ),
    Alert(
        "HeadendAgentDown",
        'up{job="headend-agent"} == 0',
        "1m",
        "ticket",
        "The agent of {{ $labels.site }} cannot be read: its front door keeps its last plan.",
        "headend logs {{ $labels.site }} agent.",
    ),
    Alert(
        "HeadendPlanOld",
        "headend_plan_age_seconds > 15",
        "1m",
        "ticket",
        "The agent of {{ $labels.site }} makes no plans; its front door works with the last one.",
        "headend routes shows what it knows; headend logs {{ $labels.site }} agent.",
    ),
    Alert(
        "HeadendSiteNotHeard",
        "headend_sites_stale > 0",
        "2m",
        "ticket",
        "{{ $labels.site }} does not hear of {{ $value }} other sites.",
        "A link is cut, a clock or a certificate is wrong, or the other site is down.",
    ),
    Alert(
        "HeadendCertificateEnding",
        "headend_certificate_remaining_seconds < 7 * 86400",
        "10m",
        "ticket",
        "The certificate of {{ $labels.site }} expires in less than a week: it should have been renewed.",
        "headend logs {{ $labels.site }} agent says why; by hand: headend fleet ca request.",
    ),
    Alert(
        "HeadendIssuerAway",
        "headend_issuer_keys_age_seconds > 3600",
        "10m",
        "ticket",
        "{{ $labels.site }} cannot fetch the keys of {{ $labels.issuer }}: tokens of new keys are refused.",
        "headend logs {{ $labels.site }} agent says why; tokens of the keys fetched last still count.",
    ),
    Alert(
        "HeadendConfigurationRefused",
        "sum by (fleet, site) (increase(envoy_cluster_manager_cds_update_rejected[5m])) "
        "+ sum by (fleet, site) (increase(envoy_listener_manager_lds_update_rejected[5m])) "
        "+ sum by (fleet, site) (increase(envoy_http_rds_update_rejected[5m])) "
        "+ sum by (fleet, site) (increase(envoy_cluster_update_rejected[5m])) > 0",
        "0s",
        "ticket",
        "Envoy of {{ $labels.site }} refused a configuration and works on with the one before.",
        "headend logs {{ $labels.site }} envoy names the resource.",
    ),
    Alert(
        "HeadendRetryStorm",
        'sum by (fleet, site) (rate(envoy_cluster_upstream_rq_retry{pool!=""}[1m])) '
        '/ sum by (fleet, site) (rate(envoy_cluster_upstream_rq_total{pool!=""}[1m])) > 0.2',
        "2m",
        "ticket",
        "Every fifth request of {{ $labels.site }} is asked again.",
        "A site refuses or loses requests while its readiness says yes: compare its queue with its room.",
    ),
)


def rules() -> Json:
    """The rule file, one group."""
    return {"groups": [{"name": "headend", "rules": [_rule(alert) for alert in ALERTS]}]}


def _rule(alert: Alert) -> Json:
    return {
        "alert": alert.name,
        "expr": alert.expr,
        "for": alert.lasting,
        "labels": {"severity": alert.severity},
        "annotations": {"summary": alert.summary, "description": alert.todo},
    }
