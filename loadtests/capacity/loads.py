"""What is searched for: each work of a campaign alone, then all together in the campaign's proportions.

A load is offered as Poisson arrivals at one rate, whatever the campaign's own shape: a knee is a rate, and
what a peak of the shape does to a fleet is for `headend loadtest run` to show.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from loadtests.arrivals import mean_rate
from loadtests.campaign import Campaign, Objectives, Poisson, Work
from models.errors import UsageError

WARM_UP = 0.2
"""Share of a step that is sent but not judged: queues have to fill first."""
ERROR_RATE = 0.01
"""Most of the requests that may fail where the campaign does not say: otherwise a fleet that refuses
everything would hold any load."""
MOMENTS = 500
"""A campaign's mean rate is taken over so many moments."""


@dataclass(frozen=True)
class Load:
    """Something that can be offered at any rate."""

    name: str
    """A work's; of the mix, the campaign's."""
    declared: Campaign
    works: tuple[Work, ...]
    """Their weights are their shares of the requests."""
    rate: float
    """What the campaign itself offers of it on average, requests a second."""

    @property
    def is_mix(self) -> bool:
        """Whether it is more than one work."""
        return len(self.works) > 1

    @property
    def title(self) -> str:
        """What people read."""
        return f"{self.name} (mix)" if self.is_mix else self.name

    @property
    def file_name(self) -> str:
        """Another one for every load of a campaign: labels have no `+`."""
        return f"{self.name}+mix" if self.is_mix else self.name

    @property
    def shares(self) -> dict[str, float]:
        """Each work's share of the requests, by name; they sum to 1."""
        total = sum(work.weight for work in self.works)
        return {work.name: work.weight / total for work in self.works}

    @property
    def objectives(self) -> Objectives:
        """Those of the campaign that can be judged by this load alone."""
        declared = self.declared.objectives
        classes = {work.class_ for work in self.works}
        says_failures = declared.error_rate is not None or declared.goodput is not None
        return Objectives(
            classes={name: limits for name, limits in declared.classes.items() if name in classes},
            error_rate=declared.error_rate if says_failures else ERROR_RATE,
            goodput=declared.goodput,
            character_error_rate=declared.character_error_rate
            if any(work.app == "subtitles" for work in self.works)
            else None,
        )

    def step(self, rate: float, seconds: float, *, seed: int, spend: float | None) -> Campaign:
        """A campaign that offers it at `rate` for so many seconds; `spend` is what it may cost."""
        return self.declared.model_copy(
            update={
                "title": f"{self.title} at {rate:.4g} requests a second",
                "seed": seed,
                "seconds": seconds,
                "warm_up_s": seconds * WARM_UP,
                "workload": list(self.works),
                "arrivals": [Poisson(kind="poisson", rate=rate)],
                "events": [],
                "objectives": self.objectives,
                "limits": self.declared.limits.model_copy(update={"spend": spend}),
            }
        )


def loads(campaign: Campaign, pools: Collection[str] | None) -> list[Load]:
    """What to search for where only `pools` are served (None: all are): works alone, then the mix.

    The mix is left out where it is one work, or where part of it is not served. Raises `UsageError` when the
    campaign has no objectives, or nothing of it is served.
    """
    if campaign.objectives == Objectives():
        raise UsageError(
            f"Campaign `{campaign.campaign}` has no objectives, so there is no load that does not hold.",
            hint="Say what must hold, for instance: objectives: {error_rate: 0.01}",
        )
    rates = _rates(campaign)
    offered = [work for work in campaign.workload if rates[work.name] > 0]
    served = [work for work in offered if pools is None or work.pool in pools]
    if not served:
        raise UsageError(
            f"Nothing that campaign `{campaign.campaign}` asks for is served there.",
            hint=f"It asks for: {', '.join(sorted({work.pool for work in offered}))}.",
        )
    alone = [Load(work.name, campaign, (work,), rates[work.name]) for work in served]
    if len(served) == 1 or len(served) < len(offered):
        return alone
    mixed = tuple(work.model_copy(update={"weight": rates[work.name]}) for work in served)
    return [*alone, Load(campaign.campaign, campaign, mixed, sum(rates.values()))]


def _rates(campaign: Campaign) -> dict[str, float]:
    """Requests a second of each work, on average over the whole campaign and all doors."""
    found = dict.fromkeys((work.name for work in campaign.workload), 0.0)
    moments = (np.arange(MOMENTS) + 0.5) * campaign.seconds / MOMENTS
    for arrival in campaign.arrivals:
        stream = campaign.model_copy(update={"arrivals": [arrival]})
        rate = float(np.mean([mean_rate(stream, at) for at in moments]))
        works = [work for work in campaign.workload if arrival.work is None or work.name in arrival.work]
        for work in works:
            found[work.name] += rate * work.weight / sum(each.weight for each in works)
    return found
