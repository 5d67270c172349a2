"""How many copies of a model a site runs, and on how many threads each.

A copy is a process with the whole model in memory, so there are only as many as bring something: one on each
GPU; on CPUs, where a card says that more threads than `max_threads` bring nothing, as many as keep the others
busy.
"""

from __future__ import annotations

import os

from models.card import Card
from serving.fleet import Fleet

MOST_BY_DEFAULT = 4
"""Copies of one model, unless the fleet declares more: a large machine's cores belong to all models."""


def gpus(fleet: Fleet, site: str, card: Card) -> tuple[int, ...]:
    """Numbers of the GPUs that the model runs on at `site`; none: it runs on the CPU."""
    # models.whisper.recognizer opens its graphs on the CPU, whatever the site has.
    return () if card.serving.runtime == "recognizer" else tuple(fleet.sites[site].gpus)


def threads(fleet: Fleet, site: str, card: Card) -> int:
    """CPU threads of one inference at `site`."""
    at_hand = fleet.sites[site].threads or os.cpu_count() or 1
    return min(at_hand, card.serving.max_threads or at_hand)


def instances(fleet: Fleet, site: str, card: Card) -> int:
    """Copies at `site`, or on each of its GPUs: as declared, or derived."""
    if declared := fleet.models[card.name].instances:
        return declared
    if gpus(fleet, site, card):
        return 1
    at_hand = fleet.sites[site].threads or os.cpu_count() or 1
    return min(MOST_BY_DEFAULT, at_hand // threads(fleet, site, card))


def copies(fleet: Fleet, site: str, card: Card) -> int:
    """Copies at `site`, on all its GPUs together."""
    return instances(fleet, site, card) * (len(gpus(fleet, site, card)) or 1)
