"""One class of one pool: which door sends how much where, so that all together wait least.

Minimise, over the requests a second `x[d, i]` that door `d` sends to site `i`,

    sum x[d, i] way[d, i]  +  sum over i of cost_i(sum over d of x[d, i])  +  tau sum x log x

with every door's requests sent. The last term (the entropy) makes the answer unique, so that equal sites get
equal shares whatever they are called, and smooth, so that a small change of what is measured is a small
change of shares; it costs at most `tau log(sites)` seconds a request. With prices `p` for the sites, a door's
split is in proportion to `exp(-(way + p) / tau)`, and the prices at which each site is asked for what it
supplies minimise a convex function of as many variables as there are sites: Newton's method finds them, with
`tau` brought down in steps. (S. Boyd and L. Vandenberghe, "Convex Optimization", 2004, sections 5.5, 9.5 and
10.2.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse.linalg import LinearOperator, cg
from scipy.special import expit, xlogy

from serving.router.plan.problem import Flags, Floats
from serving.router.plan.supply import Supply
from serving.router.plan.ways import Ways

COARSEST = 256.0
"""`tau` begins at this multiple of what is wanted …"""
COARSE = 16.0
"""… or at this one where prices are known from before …"""
FINER = 4.0
"""… and is brought down by this factor at a time."""
NEWTON_STEPS = 40
HALVINGS = 30
SUFFICIENT = 1e-4
"""A step must bring this share of what its slope promises (Armijo)."""
EXACT = 1e-4
"""A step ends when what sites are asked for is what they supply, within this share of all that is offered."""
EXACT_EACH = 5e-4
"""No site may be asked for more than it supplies by this share of its capacity."""
MENDED = 32
"""Members up to which that is seen to: among more, it takes seconds."""
NEAR = 1e-2
"""Up to this share of all that is offered, it is mended from where Newton's method ended, else from below."""
SWEEPS, BISECTIONS = 200, 50
TINY = 1e-300
DENSE = 200
"""Up to so many members the equations of a step are solved directly, beyond it by conjugate gradients …"""
CG_EXACT, CG_STEPS = 1e-2, 200
"""… to this share of their right side, in so many steps at most."""
LEAST = -1e100
"""The logarithm of nothing, as far as arithmetic is concerned."""
RIDGE = 1e-7
"""Added to the second derivative, as a share of it: a site that nobody reaches has none."""


@dataclass(frozen=True)
class Split:
    """What doors do at given prices."""

    sent: Floats
    """(doors, k): requests a second."""
    cost: float
    """What that costs all doors together, the entropy included, in seconds a second."""
    capped: Flags
    """Doors whose line is full."""


def split(ways: Ways, price: Floats, tau: float) -> Split:
    """Each door's best split at these prices of its members."""
    power = np.maximum(-(ways.seconds + price[ways.site]) / tau, LEAST)
    at_home = np.where(ways.is_home, power, LEAST).max(axis=1)
    others = np.where(ways.is_home, LEAST, power)
    top = others.max(axis=1)
    there = np.isfinite(ways.seconds)
    weight = np.exp(others - top[:, None]) * (there & ~ways.is_home)
    total = np.maximum(weight.sum(axis=1), TINY)
    elsewhere = top + np.log(total)
    free = expit(elsewhere - at_home)
    most = np.where(at_home > LEAST, np.minimum(ways.most_away / ways.offered, 1.0), 1.0)
    away = np.minimum(free, most)
    sent = np.where(ways.is_home, (1 - away)[:, None] * there, (away / total)[:, None] * weight)
    mixing = xlogy(away, away) + xlogy(1 - away, 1 - away) - away * elsewhere - (1 - away) * at_home
    cost = float((ways.offered * tau * mixing).sum())
    return Split(sent * ways.offered[:, None], cost, free > most)


def solve(ways: Ways, supply: Supply, tau: float, price: Floats | None = None) -> tuple[Split, Floats]:
    """The best split and the prices that bring it about.

    `price`: where to begin; the answer does not depend on it, but the time does.
    """
    known = price is not None
    price = supply.prices[:, 0] + 0.0 if price is None else price
    width = tau * (COARSE if known else COARSEST)
    while width > tau:
        width = max(width / FINER, tau)
        price = _balance(ways, supply, width, price)
    at = _excess(ways, supply, tau, price)
    if len(price) <= MENDED and _too_much(at, supply).any():
        is_near = np.abs(at.gradient).sum() <= NEAR * ways.offered.sum()
        price = _raised(ways, supply, tau, price if is_near else supply.prices[:, 0])
    return split(ways, price, tau), price


def _balance(ways: Ways, supply: Supply, tau: float, price: Floats) -> Floats:
    """Prices at which supply meets demand."""
    exact = EXACT * ways.offered.sum()
    at = _excess(ways, supply, tau, price)
    for _ in range(NEWTON_STEPS):
        if np.abs(at.gradient).sum() <= exact:
            break
        step = _newton_step(ways, at, tau)
        slope = float(at.gradient @ step)
        length = 1.0
        for _ in range(HALVINGS):
            following = _excess(ways, supply, tau, price + length * step)
            if following.value <= at.value + SUFFICIENT * length * slope:
                break
            length /= 2
        else:
            break
        price, at = price + length * step, following
    return price


def _too_much(at: _Excess, supply: Supply) -> Flags:
    """By member: whether it is asked for more than it supplies."""
    return np.asarray(-at.gradient > EXACT_EACH * supply.capacity)


def _raised(ways: Ways, supply: Supply, tau: float, price: Floats) -> Floats:
    """The right prices from below, for where Newton's method went astray at a corner of what a site supplies.

    When one price rises, doors ask the others for more and never for less. So raising, from the lowest there
    are, only prices of sites that are asked for too much, each to where it would supply what it is asked for
    did the others stay, comes ever nearer to the right ones and never past them. (K. Arrow, H. Block and
    L. Hurwicz, "On the stability of the competitive equilibrium, II", Econometrica 27, 1959.)
    """
    for _ in range(SWEEPS):
        at = _excess(ways, supply, tau, price)
        over = _too_much(at, supply)
        if not over.any():
            break
        price = np.where(over, price + _own_rise(ways, supply, tau, price, at), price)
    return price


def _own_rise(ways: Ways, supply: Supply, tau: float, price: Floats, at: _Excess) -> Floats:
    """By member: how much higher a price it would be balanced at, did all others stay. By bisection."""
    moves = np.where(at.split.capped[:, None] & ways.is_home, 0.0, at.split.sent)
    total = moves.sum(axis=1, keepdims=True)
    odds = np.log(np.maximum(moves, TINY)) - np.log(np.maximum(total - moves, TINY))
    site, count = ways.site.ravel(), len(price)
    stays = np.bincount(site, (at.split.sent - moves).ravel(), count)
    most = np.bincount(site, at.split.sent.ravel(), count).astype(np.float64)
    # Asked for no more than now, whatever the price.
    low, high = np.zeros(count), np.maximum(supply.price(most) - price, 0.0)
    for _ in range(BISECTIONS):
        rise = (low + high) / 2
        asked = stays + np.bincount(site, (total * expit(odds - rise[ways.site] / tau)).ravel(), count)
        short = supply.at(price + rise)[0] < asked
        low, high = np.where(short, rise, low), np.where(short, high, rise)
    return high


@dataclass(frozen=True)
class _Excess:
    """The convex function whose least is at the right prices."""

    value: float
    gradient: Floats
    """What members supply less what they are asked for."""
    slope: Floats
    """Of the supply."""
    split: Split


def _excess(ways: Ways, supply: Supply, tau: float, price: Floats) -> _Excess:
    load, slope, area = supply.at(price)
    done = split(ways, price, tau)
    asked = np.bincount(ways.site.ravel(), done.sent.ravel(), len(price))
    return _Excess(float(area.sum()) - done.cost, load - asked, slope, done)


def _newton_step(ways: Ways, at: _Excess, tau: float) -> Floats:
    """Solves the second derivative's equations; doors whose lines are full choose among others only."""
    sent = np.where(at.split.capped[:, None] & ways.is_home, 0.0, at.split.sent)
    total, site = np.maximum(sent.sum(axis=1), TINY), ways.site.ravel()
    asked = np.bincount(site, sent.ravel(), len(at.gradient))
    own = np.bincount(site, (sent * sent / total[:, None]).ravel(), len(at.gradient))
    ridge = RIDGE * (asked / tau + at.slope)
    ridge += RIDGE**2 * ridge.max() + TINY

    def second(step: Floats) -> Floats:
        there = step[ways.site]
        mean = (sent * there).sum(axis=1) / total
        moved = np.bincount(site, (sent * (there - mean[:, None])).ravel(), len(step))
        return moved / tau + (at.slope + ridge) * step

    diagonal = (asked - own) / tau + at.slope + ridge
    if len(at.gradient) <= DENSE:
        apart = np.zeros((len(sent), len(at.gradient)))
        np.put_along_axis(apart, ways.site, sent, axis=1)
        matrix = (np.diag(asked) - apart.T @ (apart / total[:, None])) / tau + np.diag(at.slope + ridge)
        scale = 1 / np.sqrt(np.diag(matrix))
        scaled = scale[:, None] * matrix * scale
        return np.asarray(scale * np.linalg.solve(scaled, -scale * at.gradient), np.float64)
    size = (len(at.gradient),) * 2
    found, _ = cg(
        LinearOperator(size, matvec=second, dtype=np.float64),
        -at.gradient,
        rtol=CG_EXACT,
        maxiter=CG_STEPS,
        M=LinearOperator(size, matvec=lambda step: step / diagonal, dtype=np.float64),
    )
    return np.asarray(found, np.float64)
