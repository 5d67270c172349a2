"""When a new version is not as good as the old one: pure rules over what was counted and compared.

A share of bad ones counts when the lower end of its 95% confidence interval is above what is allowed
(E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22, 1927), so that
few requests need to be bad to be sure, and one odd request among many is not held against a version.
"""

from __future__ import annotations

from math import sqrt

from models.card import Tolerance
from models.schema import Strict
from serving.fleet import Rollout

_Z = 1.96
SURE = 3
"""Failures that a person would want to see before believing in them."""
_FELT_MS = 1.0
"""A difference below this is the machine's, not the model's."""


RECORDED_HEADER = "x-headend-recorded"
"""On what is not a client's request but a recorded input."""


class Triton(Strict):
    """Ports of one Triton on this machine."""

    http: int
    grpc: int


class JudgeConfig(Strict):
    """What a judge is started with."""

    http: int
    grpc: int
    old: Triton
    new: Triton
    tolerances: dict[str, Tolerance]
    """By model: how far the outputs of the two versions may be apart."""


class Compared(Strict):
    """What the judge found for one model so far."""

    recorded: int = 0
    """Recorded inputs that both versions answered."""
    mirrored: int = 0
    """Copies of clients' requests that both versions answered."""
    different: int = 0
    """Those of both whose outputs are beyond the tolerance."""
    failed: int = 0
    """Those that only the old version answered."""
    dropped: int = 0
    """Copies that were not asked, because enough others were being asked."""
    ratio: float | None = None
    """New time over old time of the same request, median."""
    old_ms: float | None = None
    """Median."""
    new_ms: float | None = None
    first_difference: str = ""
    first_failure: str = ""

    @property
    def pairs(self) -> int:
        """Requests that both versions answered."""
        return self.recorded + self.mirrored


class Served(Strict):
    """What one version answered to clients during a step."""

    requests: int = 0
    errors: int = 0
    """Answers with 5xx or a gRPC status that says the same, broken connections included."""
    mean_ms: float | None = None
    """From arrival in Triton to the answer, queue included."""


def at_least(bad: int, of: int) -> float:
    """Lower end of the 95% Wilson interval of a share."""
    if not of:
        return 0.0
    share, z2 = bad / of, _Z * _Z
    centre = share + z2 / (2 * of)
    spread = _Z * sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max(0.0, (centre - spread) / (1 + z2 / of)) if bad else 0.0


def against_compared(model: str, found: Compared, rules: Rollout, *, may_differ: bool) -> str:
    """Why the new version of `model` must not go on, from compared requests; empty: no reason."""
    if not may_differ and at_least(found.different, found.pairs) > rules.different:
        return (
            f"{model}: {found.different} of {found.pairs} compared requests have other outputs: "
            f"{found.first_difference}"
        )
    asked = found.pairs + found.failed
    if found.failed >= SURE and at_least(found.failed, asked) > rules.errors:
        return (
            f"{model}: the new version failed {found.failed} of {asked} requests that the old one answered: "
            f"{found.first_failure}"
        )
    if found.ratio and found.old_ms and found.new_ms and found.pairs >= rules.samples:
        felt = found.new_ms - found.old_ms > _FELT_MS
        if felt and found.ratio > rules.slower:
            return (
                f"{model}: the new version takes {found.ratio:.2f} times as long ({found.new_ms:.1f} ms, the "
                f"old one {found.old_ms:.1f} ms, medians of {found.pairs} compared requests; allowed: "
                f"{rules.slower:g})"
            )
    return ""


def against_served(model: str, new: Served, old: Served, rules: Rollout) -> str:
    """Why the new version of `model` must not go on, from what clients got; empty: no reason."""
    usual = old.errors / old.requests if old.requests else 0.0
    if new.errors >= SURE and at_least(new.errors, new.requests) > usual + rules.errors:
        return (
            f"{model}: the new version failed {new.errors} of {new.requests} requests, "
            f"the old one {old.errors} of {old.requests}"
        )
    enough = min(new.requests, old.requests) >= rules.samples
    if enough and new.mean_ms and old.mean_ms and new.mean_ms - old.mean_ms > _FELT_MS:
        ratio = new.mean_ms / old.mean_ms
        if ratio > rules.slower:
            return (
                f"{model}: the new version takes {ratio:.2f} times as long ({new.mean_ms:.1f} ms, the old "
                f"one {old.mean_ms:.1f} ms, means of {new.requests} and {old.requests} requests; allowed: "
                f"{rules.slower:g})"
            )
    return ""
