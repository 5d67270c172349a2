"""Rows about what leads the requests: the plan, the agents, and Envoy's own state."""

from __future__ import annotations

from serving.observe.panel import AT, CLASS, LISTENER, OF, WINDOW, Panel, Row, rate

PLAN = Row(
    "What does the plan say?",
    (
        Panel(
            "Shares of the plan",
            "Of what `site`'s front door gets: the part that each place (after the arrow) is given.",
            (
                (
                    f"avg by (site, pool, class, exported_site) (headend_plan_share{{{OF}, {CLASS}}})",
                    "{{site}} {{pool}} {{class}} → {{exported_site}}",
                ),
            ),
            unit="percentunit",
            width=16,
        ),
        Panel(
            "Age of the plan",
            "Above some seconds: the agent stands still, and the front door works with its last plan.",
            ((f"max by (site) (headend_plan_age_seconds{{{AT}}})", "{{site}}"),),
            unit="s",
        ),
        Panel(
            "Age of what sites said last",
            "Per listener and speaker. A stale site counts with its declared capacity until it speaks again.",
            (
                (
                    f"max by (site, exported_site) (headend_summary_age_seconds{{{AT}}})",
                    "{{site}} of {{exported_site}}",
                ),
                (f"sum by (site) (headend_sites_stale{{{AT}}})", "stale for {{site}}"),
            ),
            unit="s",
        ),
        Panel(
            "What agents failed at",
            "Plans not computed, or not taken by Envoy; what other agents said and was refused, or did not.",
            tuple(
                (f"sum by (site{more}) (rate({metric}{{{AT}}}{WINDOW}))", f"{kind} {{{{site}}}}")
                for kind, metric, more in (
                    ("plan failed", "headend_plan_failures_total", ""),
                    ("refused by Envoy", "headend_updates_refused_total", ""),
                    ("not taken by Envoy", "headend_updates_missed_total", ""),
                    ("summary refused, {{reason}}", "headend_summaries_refused_total", ", reason"),
                    (
                        "{{exported_site}} does not answer",
                        "headend_questions_failed_total",
                        ", exported_site",
                    ),
                )
            ),
            unit="ops",
        ),
        Panel(
            "Round trip between sites",
            "As agents measure it.",
            (
                (
                    f"max by (site, exported_site) (headend_site_rtt_seconds{{{AT}}})",
                    "{{site}} to {{exported_site}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            "Capacity of sites",
            "Requests a second that a site's own parts can answer, by the record and by what is measured.",
            ((f"sum by (site, pool) (headend_pool_capacity{{{OF}}})", "{{site}} {{pool}}"),),
        ),
        Panel(
            "Agent: CPU",
            "Of one core.",
            ((f"rate(process_cpu_seconds_total{{{AT}}}{WINDOW})", "{{site}}"),),
            unit="percentunit",
        ),
    ),
)

CONTROL = Row(
    "Is the front door told right?",
    (
        Panel(
            "Configuration that Envoy refused",
            "Each is a bug or a broken file; the last good configuration works on. `headend logs SITE envoy` "
            "says which.",
            tuple(
                (f"sum by (site) (increase({metric}{{{AT}}}[5m]))", f"{{{{site}}}} {kind}")
                for kind, metric in (
                    ("clusters", "envoy_cluster_manager_cds_update_rejected"),
                    ("listeners", "envoy_listener_manager_lds_update_rejected"),
                    ("routes", "envoy_http_rds_update_rejected"),
                    ("endpoints", "envoy_cluster_update_rejected"),
                )
            ),
            unit="none",
        ),
        Panel(
            "Plans taken up",
            "Changes of endpoints that Envoy took over, a second; 0 where load moves: see the agent.",
            ((rate("envoy_cluster_update_success", AT, "site"), "{{site}}"),),
            unit="none",
        ),
        Panel(
            "Ejected hosts",
            "Places that could not be talked to and are left alone for some seconds.",
            (
                (
                    f"sum by (site, pool) (envoy_cluster_outlier_detection_ejections_active{{{OF}}})",
                    "{{site}} {{pool}}",
                ),
            ),
            unit="none",
        ),
        Panel(
            "Connections of clients",
            "10,000 is the most.",
            (
                (
                    f"sum by (site) (envoy_http_downstream_cx_active{{{AT}, {LISTENER}}})",
                    "{{site}}",
                ),
            ),
            unit="none",
        ),
        Panel(
            "Envoy's memory",
            "",
            ((f"max by (site) (envoy_server_memory_physical_size{{{AT}}})", "{{site}}"),),
            unit="bytes",
        ),
    ),
)
