"""The way to prices that nobody knows yet: from a large `tau`, where they are easy to find, to a small one.

At a large `tau` doors spread what they send, and prices differ little; as `tau` falls, prices and what doors
send move continuously to where they have to be. They are followed by Newton's method for both at once: what
is sent need not be what doors would choose at the prices of the moment, only come nearer to it with every
step. (Of the conditions for the best split, `way + price + tau log(sent)` alike for all ways of a door is
taken for straight in what is sent. Taken so in prices, they would jump past every way that nobody takes yet.
Interior-point methods do likewise: S. J. Wright, "Primal-Dual Interior-Point Methods", 1997.)
"""

from __future__ import annotations

import numpy as np

from serving.router.plan.balance import Balance, split
from serving.router.plan.equations import moves
from serving.router.plan.problem import Flags, Floats
from serving.router.plan.supply import Supply
from serving.router.plan.ways import Ways

FINER = 2.0
"""`tau` is brought down by this factor at a time, once what doors send fits the prices within …"""
FITS = 1.0
"""… this, as a mean of logarithms."""
NEARLY = 5e-2
"""As near as this, prices are tried."""
STEPS = 60
"""By then it has found them, or will not."""
FARTHEST = 4.0
"""No price moves by more than this factor in a step."""
CHORDS = 3
"""How often a step is reckoned anew, with what sites supply where it leads …"""
MISSED = 0.5
"""… where this is off by so much of what sites are asked for too much or too little."""
NOTHING = 1e-14
"""The least that a door sends by any way, as a share of what it brings: it can grow from that."""
TINY = 1e-300


def followed(
    ways: Ways, supply: Supply, tau: float, slack: float, price: Floats, sent: Floats | None, width: float
) -> Floats:
    """Prices that are balanced at `tau`, or near them; `slack` as in `Balance.is_right`.

    They are looked for from `price`, from a `tau` of `width`, and from what is `sent` by way; None: what
    doors choose at the price.
    """
    width, least = max(width, tau), NOTHING * ways.offered[ways.door]
    price = np.maximum(price, supply.prices[:, 0])
    done = split(ways, price, width)
    sent = np.maximum(done.sent if sent is None else sent, least)
    for _ in range(STEPS):
        # By a full line go as many as it carries; the others stay.
        stays = done.capped[ways.door] & ways.is_home
        free = np.where(stays, 0.0, sent)
        misfit = ways.seconds + price[ways.site] + width * np.log(sent / ways.offered[ways.door])
        misfit = np.where(stays, 0.0, misfit - _mean(ways, free, misfit))
        off = float((free * np.abs(misfit)).sum() / width / ways.offered.sum())
        is_near = width <= tau and off < NEARLY
        if is_near and Balance.of(ways, supply, tau, price).is_right(ways, supply, slack):
            break
        step = _step(ways, supply, width, price, sent, free, misfit)
        along = step[ways.site]
        along = -(misfit + along - _mean(ways, free, along)) / width
        price = _moved(price, step, supply)
        if off < FITS:
            width = max(width / FINER, tau)
        # Growth is straight and decline is not: what is sent stays above nothing, and nothing explodes.
        grown = sent * np.where(along > 0, 1 + along, np.exp(np.minimum(along, 0.0)))
        if (ways.most_away < ways.offered).any():
            done = split(ways, price, width)
        sent = _all_sent(ways, np.where(done.capped[ways.door] & ways.is_home, done.sent, grown), done.capped)
        sent = np.maximum(sent, least)
    return price


def _step(
    ways: Ways, supply: Supply, width: float, price: Floats, sent: Floats, free: Floats, misfit: Floats
) -> Floats:
    """Newton's step of prices."""
    supplied, slope, _ = supply.at(price)
    short = ways.asked(sent, len(price)) - supplied
    right = short - ways.asked(free * misfit, len(price)) / width
    step = moves(ways, free, width, slope, right)
    for _ in range(CHORDS):
        more = supply.at(_moved(price, step, supply))[0] - supplied
        if np.abs(more - slope * step).sum() <= MISSED * np.abs(short).sum():
            break
        # Past a corner of what a site supplies: the chord to there instead of the slope here.
        chord = np.divide(more, step, out=slope.copy(), where=step != 0)
        slope = np.maximum(chord, 0.0)
        step = moves(ways, free, width, slope, right)
    return step


def _moved(price: Floats, step: Floats, supply: Supply) -> Floats:
    within = np.clip(price + step, price / FARTHEST, price * FARTHEST)
    return np.asarray(np.maximum(within, supply.prices[:, 0]), np.float64)


def _mean(ways: Ways, weight: Floats, values: Floats) -> Floats:
    """By way, the weighted mean over its door's ways."""
    mean = ways.each(weight * values) / np.maximum(ways.each(weight), TINY)
    return np.asarray(mean[ways.door], np.float64)


def _all_sent(ways: Ways, sent: Floats, capped: Flags) -> Floats:
    """In proportion to `sent`, all that is offered; what stays because a line is full is right already."""
    stays = capped[ways.door] & ways.is_home
    free = np.where(stays, 0.0, sent)
    rest = ways.offered - ways.each(np.where(stays, sent, 0.0))
    factor = rest / np.maximum(ways.each(free), TINY)
    return np.where(stays, sent, free * factor[ways.door])
