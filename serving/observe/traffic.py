"""Rows about requests: whether they are answered, where they go, and what takes their time."""

from __future__ import annotations

from serving.observe.panel import AT, DOOR, OF, PROBED, Panel, Row, mean_ms, quantile, rate

OVERVIEW = Row(
    "Is the fleet answering?",
    (
        Panel(
            "Offered, by class",
            "Requests that clients bring. Falls to nothing: look at what stands before the front doors.",
            ((rate("envoy_vhost_route_upstream_rq_total", DOOR, "class"), "{{class}}"),),
            stacked=True,
        ),
        Panel(
            "Not answered, by class",
            "Answers of 500 and above: refused (503 before it is told to clients as 429), late (504), lost. "
            "`live` here is what to be woken up for.",
            (
                (
                    rate(
                        "envoy_vhost_route_upstream_rq_xx", f'{DOOR}, envoy_response_code_class="5"', "class"
                    ),
                    "{{class}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "p99, by class",
            "From the request's arrival at a front door to the end of its answer, retries included.",
            ((quantile(0.99, "class"), "{{class}}"),),
            unit="ms",
        ),
        Panel(
            "Places that can answer, of those there are",
            "By pool, the worst front door's view. Below 1 a site is lost, drained or loading a model; "
            "0: nobody answers this pool.",
            (
                (
                    "min by (pool) ("
                    f"sum by (site, pool) (envoy_cluster_membership_healthy{{{OF}, {PROBED}}}) / "
                    f"sum by (site, pool) (envoy_cluster_membership_total{{{OF}, {PROBED}}}))",
                    "{{pool}}",
                ),
            ),
            unit="percentunit",
            width=12,
        ),
        Panel(
            "Scraped parts",
            "1 up, 0 down. While an agent is down, its front door keeps the last plan.",
            ((f'min by (site, job) (up{{{AT}, job=~"headend-.*"}})', "{{site}} {{job}}"),),
            unit="none",
            width=12,
        ),
    ),
)

POOLS = Row(
    "Which pool, which site?",
    (
        Panel(
            "Offered, by site and pool",
            "What clients bring to each site's front door.",
            ((rate("envoy_vhost_route_upstream_rq_total", DOOR, "site", "pool"), "{{site}} {{pool}}"),),
        ),
        Panel(
            "Answers, by status",
            "Envoy's view: gRPC errors are inside a 200; what a front door refuses is a 503 for all.",
            (
                (
                    rate("envoy_vhost_route_upstream_rq", DOOR, "site", "pool", "envoy_response_code"),
                    "{{site}} {{pool}} {{envoy_response_code}}",
                ),
            ),
        ),
        Panel(
            "p50 and p99, by site and pool",
            "At the front door. p99 away from p50: a queue, see below; both up: compute, or a thin link.",
            (
                (quantile(0.5, "site", "pool"), "p50 {{site}} {{pool}}"),
                (quantile(0.99, "site", "pool"), "p99 {{site}} {{pool}}"),
            ),
            unit="ms",
        ),
        Panel(
            "In flight, by site and pool",
            "Requests that a front door has sent on and has no answer to.",
            (
                (
                    f"sum by (site, pool, way) (envoy_cluster_upstream_rq_active{{{OF}}})",
                    "{{site}} {{pool}} {{way}}",
                ),
            ),
            unit="none",
        ),
        Panel(
            "Refused, by reason",
            "`full`: no place would take it; `late`: its deadline could not be kept. The least urgent class "
            "goes first.",
            (
                (
                    rate("envoy_cluster_upstream_rq_pending_overflow", f'{AT}, reason!=""', "site", "reason"),
                    "{{site}} {{reason}}",
                ),
            ),
        ),
        Panel(
            "Retries for each request",
            "0.1 says that every tenth was asked again somewhere else. It rises under load, and stays below "
            "what one request may ask; `not allowed`: more were to be asked again than may be in flight.",
            (
                (
                    f"{rate('envoy_cluster_upstream_rq_retry', OF, 'site', 'pool')} / "
                    f"{rate('envoy_cluster_upstream_rq_total', OF, 'site', 'pool')}",
                    "{{site}} {{pool}}",
                ),
                (
                    rate("envoy_cluster_upstream_rq_retry_overflow", OF, "site", "pool"),
                    "not allowed {{site}} {{pool}}",
                ),
            ),
            unit="percentunit",
        ),
    ),
)

COMPUTE = Row(
    "Is it the queue or the compute?",
    (
        Panel(
            "Queue, for each request",
            "Triton's queue. Above the model's own time the site is full, and load should be leaving it.",
            ((mean_ms("nv_inference_queue_duration_us"), "{{site}} {{pool}}"),),
            unit="ms",
        ),
        Panel(
            "Compute, for each request",
            "A batch's time counts for every request in it. More at the same load: slower cores. Less under "
            "overload: requests whose clients gave up count as answered in no time.",
            ((mean_ms("nv_inference_compute_infer_duration_us"), "{{site}} {{pool}}"),),
            unit="ms",
        ),
        Panel(
            "Waiting in Triton",
            "Requests accepted and not begun.",
            ((f"sum by (site, pool) (nv_inference_pending_request_count{{{OF}}})", "{{site}} {{pool}}"),),
            unit="none",
        ),
        Panel(
            "Rows in a batch",
            "Mean over executions; 1 where requests come singly.",
            (
                (
                    f"{rate('nv_inference_count', OF, 'site', 'pool')} / "
                    f"{rate('nv_inference_exec_count', OF, 'site', 'pool')}",
                    "{{site}} {{pool}}",
                ),
            ),
            unit="none",
        ),
        Panel(
            "Failed in Triton",
            "By Triton's reason: REJECTED is a full queue; BACKEND and OTHER are the model's own errors.",
            (
                (
                    rate(
                        "nv_inference_request_failure", f'{OF}, reason!="CANCELED"', "site", "pool", "reason"
                    ),
                    "{{site}} {{pool}} {{reason}}",
                ),
            ),
        ),
        Panel(
            "CPU of the machine",
            "All processes together, as Triton sees it.",
            ((f"max by (site) (nv_cpu_utilization{{{AT}}})", "{{site}}"),),
            unit="percentunit",
        ),
    ),
)
