"""What sites report of their load to Envoys that weigh by it."""

from __future__ import annotations

from loadtests.testbed.reports import report
from serving.router.telemetry import triton
from serving.router.telemetry.counters import Counters


def test_a_report_is_of_what_was_answered_and_how_long_copies_were_busy():
    counted: Counters[triton.Key] = Counters(2.0)
    assert report(counted, ["clip"], 2) == ""
    counted.add(0.0, {("clip", "answered"): 10, ("clip", "service_ns"): 1e9})
    counted.add(2.0, {("clip", "answered"): 30, ("clip", "service_ns"): 3e9})
    assert report(counted, ["clip"], 2) == "TEXT application_utilization=0.5000, rps_fractional=10.000"
