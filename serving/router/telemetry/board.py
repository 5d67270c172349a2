"""The newest summary of every site, and what was refused.

Not guaranteed: that a relay which holds back the summaries of a site that has restarted cannot show an older
boot of it to an agent that never saw the newer one. It can never invent or change one.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import ValidationError

from serving.router.telemetry.links import LinkMeter
from serving.router.telemetry.message import MOST_ANSWER_BYTES, Reason, RefusedError, Signed
from serving.router.telemetry.observed import Observed
from serving.router.telemetry.summary import MOST_BYTES, SiteSummary

_BOOTS_REMEMBERED = 64


class Seal(Protocol):
    """Signs this site's summaries, and checks those of others."""

    def sign(self, summary: str) -> Signed:
        """The summary with this site's signature."""
        ...

    def check(self, signed: Signed, site: str) -> None:
        """Raises `RefusedError` (`signature`) unless `site` has signed it."""
        ...


class NoSeal:
    """Of a fleet without a CA: whoever reaches a peer listener is believed."""

    def sign(self, summary: str) -> Signed:
        """Unsigned."""
        return Signed(summary=summary)

    def check(self, signed: Signed, site: str) -> None:
        """Nothing to check."""


@dataclass
class _Entry:
    signed: Signed
    summary: SiteSummary
    at: float
    """When it came, by this machine's monotonic clock."""
    boots: deque[str] = field(default_factory=lambda: deque(maxlen=_BOOTS_REMEMBERED))
    """Those before the present one: what they said can only be a replay."""


class Board:
    """Of one agent. `clock`: monotonic, seconds."""

    def __init__(
        self, fleet: str, site: str, sites: Collection[str], seal: Seal, clock: Callable[[], float]
    ) -> None:
        self._fleet, self._site, self.sites = fleet, site, frozenset(sites)
        self._seal, self._clock = seal, clock
        self._since = clock()
        self._entries: dict[str, _Entry] = {}
        self.refused: Counter[Reason] = Counter()

    def publish(self, summary: SiteSummary) -> None:
        """Put up this site's own."""
        signed = self._seal.sign(summary.model_dump_json(exclude_defaults=True))
        self._entries[self._site] = _Entry(signed, summary, self._clock())

    def take(self, signed: Signed, sender: str) -> bool:
        """Put up what `sender` tells of itself or of another site, if it is newer than what is known.

        What must not be is refused and counted. The same once more, or an older one from a relay, is no
        harm and only passed over.
        """
        try:
            return self._take(signed, sender)
        except RefusedError as error:
            self.refuse(error.reason)
            return False

    def refuse(self, reason: Reason) -> None:
        """Count what was refused before it came here."""
        self.refused[reason] += 1

    def _take(self, signed: Signed, sender: str) -> bool:
        summary = _read(signed.summary)
        if summary.fleet != self._fleet:
            raise RefusedError("fleet", f"it is of fleet {summary.fleet}")
        if summary.site not in self.sites or summary.site == self._site:
            raise RefusedError("site", f"{summary.site} is no other site of this fleet")
        entry = self._entries.get(summary.site)
        if entry and not self._is_newer(summary, entry, sender):
            return False
        self._seal.check(signed, summary.site)
        boots = entry.boots if entry else deque(maxlen=_BOOTS_REMEMBERED)
        if entry and summary.boot != entry.summary.boot:
            boots.append(entry.summary.boot)
        self._entries[summary.site] = _Entry(signed, summary, self._clock(), boots)
        return True

    def _is_newer(self, summary: SiteSummary, entry: _Entry, sender: str) -> bool:
        if summary.boot != entry.summary.boot:
            if summary.boot in entry.boots:
                raise RefusedError("replay", "it is of an agent that has ended")
            return True
        if summary.sequence < entry.summary.sequence and sender == summary.site:
            raise RefusedError("replay", f"{summary.sequence} is older than {entry.summary.sequence}")
        return summary.sequence > entry.summary.sequence

    def known(self) -> dict[str, tuple[str, int]]:
        """The newest of every other site, for those who may know newer ones."""
        return {
            site: (entry.summary.boot, entry.summary.sequence)
            for site, entry in self._entries.items()
            if site != self._site
        }

    def news(self, known: Mapping[str, tuple[str, int]], sites: Collection[str]) -> list[Signed]:
        """Of `sites`, the summaries newer than what is `known`, the freshest first, as many as one message
        holds.
        """
        found, size = [], 0
        chosen = [(site, self._entries[site]) for site in sites if site in self._entries]
        for site, entry in sorted(chosen, key=lambda item: -item[1].at):
            boot, sequence = known.get(site, ("", -1))
            if boot == entry.summary.boot and sequence >= entry.summary.sequence:
                continue
            size += len(entry.signed.summary) + len(entry.signed.certificate) + 1024
            if size > MOST_ANSWER_BYTES // 2:  # the rest of a message is quotes and escapes
                break
            found.append(entry.signed)
        return found

    def observed(self, links: Mapping[str, LinkMeter]) -> dict[str, Observed]:
        """What is known of every site of the fleet now."""
        now = self._clock()
        found = {}
        for site in self.sites:
            entry, link = self._entries.get(site), links[site].link() if site in links else None
            found[site] = Observed(
                summary=entry.summary if entry else None,
                age_s=now - (entry.at if entry else self._since),
                rtt_s=link.rtt_ms / 1000 if link else None,
                bytes_per_s=link.mbit_s * 125_000 if link and link.mbit_s else None,
            )
        return found


def _read(text: str) -> SiteSummary:
    if len(text.encode()) > MOST_BYTES:
        raise RefusedError("size", f"it is larger than {MOST_BYTES} bytes")
    try:
        return SiteSummary.model_validate_json(text)
    except ValidationError as error:
        raise RefusedError("format", f"it is no summary: {error.errors()[0]['msg']}") from error
