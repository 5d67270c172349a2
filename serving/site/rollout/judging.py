"""When a new version is not as good as the old one: pure rules over what was counted and compared.

A share of bad ones counts when the lower end of its 95% confidence interval is above what is allowed
(E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22, 1927), so that
few requests need to be bad to be sure, and one odd request among many is not held against a version. Times
are held against it in the same manner: by the lower end of the interval of a median (M. J. Campbell and
M. J. Gardner, Calculating confidence intervals for some non-parametric analyses, BMJ 296, 1988), which asks
nothing of how times scatter, so that a busy moment of the machine is not taken for a slower version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from statistics import median

from models.card import Tolerance
from models.schema import Strict
from serving.fleet import Rollout

_Z = 1.96
SURE = 3
"""Failures that a person would want to see before believing in them."""
FEWEST = 6
"""Ratios below which nothing can be said of their median with 95% confidence."""
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
    ratio_at_least: float | None = None
    """Lower end of its 95% confidence interval, if there are enough."""
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
    answers: int = 0
    """Successes, as Triton counts them."""
    total_ms: float = 0.0
    """Those of all of them from arrival in Triton to the answer, queue included."""

    @property
    def mean_ms(self) -> float | None:
        """Milliseconds of one answer; None: there was none."""
        return self.total_ms / self.answers if self.answers else None

    def since(self, then: Served) -> Served:
        """What came after `then`; a part that was started anew in between counts from its start."""
        if self.requests < then.requests or self.answers < then.answers:
            return self
        return Served(
            requests=self.requests - then.requests,
            errors=self.errors - then.errors,
            answers=self.answers - then.answers,
            total_ms=self.total_ms - then.total_ms,
        )


@dataclass
class Spans:
    """How the two versions' mean times compare, span by span: what delays many answers at once lies in one.

    A span ends when both versions have answered in it.
    """

    ratios: list[float] = field(default_factory=list)
    """New over old."""
    _new: Served = field(default_factory=Served)
    _old: Served = field(default_factory=Served)

    def add(self, new: Served, old: Served) -> None:
        """Count what both have answered until now."""
        mine, theirs = new.since(self._new).mean_ms, old.since(self._old).mean_ms
        if mine and theirs:
            self.ratios.append(mine / theirs)
            self._new, self._old = new, old


def at_least(bad: int, of: int) -> float:
    """Lower end of the 95% Wilson interval of a share."""
    if not of:
        return 0.0
    share, z2 = bad / of, _Z * _Z
    centre = share + z2 / (2 * of)
    spread = _Z * sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max(0.0, (centre - spread) / (1 + z2 / of)) if bad else 0.0


def median_at_least(values: Sequence[float]) -> float | None:
    """Lower end of the 95% confidence interval of a median; None: there are fewer than `FEWEST`."""
    rank = round((len(values) - _Z * sqrt(len(values))) / 2)
    return sorted(values)[rank - 1] if rank > 0 else None


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
    if found.pairs >= rules.samples and found.old_ms and found.new_ms:
        of = f"medians of {found.pairs} compared requests"
        return _slower(model, found.new_ms, found.old_ms, of, found.ratio, found.ratio_at_least, rules)
    return ""


def against_served(model: str, new: Served, old: Served, ratios: Sequence[float], rules: Rollout) -> str:
    """Why the new version of `model` must not go on, from what clients got; empty: no reason.

    `ratios`: of the versions' mean times, of `Spans`.
    """
    usual = old.errors / old.requests if old.requests else 0.0
    if new.errors >= SURE and at_least(new.errors, new.requests) > usual + rules.errors:
        return (
            f"{model}: the new version failed {new.errors} of {new.requests} requests, "
            f"the old one {old.errors} of {old.requests}"
        )
    if min(new.requests, old.requests) >= rules.samples and new.mean_ms and old.mean_ms:
        of = f"means of {new.requests} and {old.requests} requests"
        ratio = median(ratios) if ratios else None
        return _slower(model, new.mean_ms, old.mean_ms, of, ratio, median_at_least(ratios), rules)
    return ""


def _slower(
    model: str,
    new_ms: float,
    old_ms: float,
    of: str,
    ratio: float | None,
    ratio_at_least: float | None,
    rules: Rollout,
) -> str:
    if ratio is None or ratio_at_least is None or ratio_at_least <= rules.slower:
        return ""
    if new_ms - old_ms <= _FELT_MS:
        return ""
    return (
        f"{model}: the new version takes {ratio:.2f} times as long ({new_ms:.1f} ms, the old one "
        f"{old_ms:.1f} ms, {of}; surely {ratio_at_least:.2f} times, allowed: {rules.slower:g})"
    )
