"""What a site's agent knows of each site at one moment."""

from __future__ import annotations

from dataclasses import dataclass

from serving.router.telemetry.summary import SiteSummary

STALE_AFTER_S = 5.0
"""Ten summaries have not come."""


@dataclass(frozen=True)
class Observed:
    """One site as it was last heard of."""

    summary: SiteSummary | None = None
    """None: never heard of since this agent started."""
    age_s: float = 0.0
    """Since the summary was taken, by the receiver's monotonic clock: no other machine's clock matters. Of a
    site never heard of: since the agent started."""
    rtt_s: float | None = None
    """Round trip from here, seconds; None: not measured."""
    bytes_per_s: float | None = None
    """Bandwidth from here, bytes/s; None: too fast to be measured, or not measured yet."""

    @property
    def is_stale(self) -> bool:
        """Whether what it said last may not be so any more."""
        return self.age_s > STALE_AFTER_S
