"""One class of one pool: which door sends how much where, so that all together wait least.

Minimise, over the requests a second `x[d, i]` that door `d` sends to site `i`,

    sum x[d, i] way[d, i]  +  sum over i of cost_i(sum over d of x[d, i])  +  tau sum x log x

with every door's requests sent. The last term (the entropy) makes the answer unique, so that equal sites get
equal shares whatever they are called, and smooth, so that a small change of what is measured is a small
change of shares; it costs at most `tau log(sites)` seconds a request. With prices `p` for the sites, a door's
split is in proportion to `exp(-(way + p) / tau)`, and the prices at which each site is asked for what it
supplies minimise a convex function of as many variables as there are sites (S. Boyd and L. Vandenberghe,
"Convex Optimization", 2004, sections 5.5 and 10.2). `path` finds them in a dozen steps as a rule; where it
does not, Newton's method with a line search comes nearer with every step, held back where it is led astray as
D. Marquardt does ("An algorithm for least-squares estimation of nonlinear parameters", SIAM Journal 11,
1963).
"""

from __future__ import annotations

import numpy as np

from serving.router.plan.balance import Balance, Split
from serving.router.plan.equations import moves
from serving.router.plan.path import followed
from serving.router.plan.problem import Floats
from serving.router.plan.supply import Supply
from serving.router.plan.ways import Ways

STEPS = 60
SEARCHES = 8
SUFFICIENT = 1e-4
"""A step must bring this share of what its slope promises (Armijo)."""
SHORT = 0.25
"""Where no more than this share of a step lowers the value, the next is held back …"""
HELD = 1e-3
"""… by this share of how fast supply and demand would move by themselves, or by …"""
HARDER = 8.0
"""… this factor more than this one."""


def solve(
    ways: Ways, supply: Supply, tau: float, slack: float, price: Floats, sent: Floats | None, width: float
) -> tuple[Split, Floats, bool]:
    """The best split, the prices that bring it about, and whether they do.

    `slack` as in `Balance.is_right`. The last three say where to begin, as in `followed`: the time depends on
    them, but the answer does not, by more than the slack.
    """
    price = followed(ways, supply, tau, slack, price, sent, width)
    price, at = _balanced(ways, supply, tau, slack, price)
    return at.split, price, at.is_right(ways, supply, slack)


def _balanced(ways: Ways, supply: Supply, tau: float, slack: float, price: Floats) -> tuple[Floats, Balance]:
    """Prices at which supply meets demand, from near them."""
    # Below its first knot a site supplies nothing, and is asked for more than that.
    price = np.maximum(price, supply.prices[:, 0])
    at, held = Balance.of(ways, supply, tau, price), 0.0
    for _ in range(STEPS):
        if at.is_right(ways, supply, slack):
            break
        price, at, length = _along(ways, supply, tau, price, at, _step(ways, at, tau, held))
        if length <= SHORT:
            held = max(HELD, HARDER * held)
        elif length == 1:
            held = held / 2 if held > HELD else 0.0
    return price, at


def _step(ways: Ways, at: Balance, tau: float, held: float) -> Floats:
    """Newton's; doors whose lines are full choose among others only."""
    free = np.where(at.split.capped[ways.door] & ways.is_home, 0.0, at.split.sent)
    leak = at.slope + held * (at.slope + (ways.asked(free, len(at.slope)) + at.supplied) / tau)
    return moves(ways, free, tau, leak, -at.gradient)


def _along(
    ways: Ways, supply: Supply, tau: float, price: Floats, at: Balance, step: Floats
) -> tuple[Floats, Balance, float]:
    """As much of a step as lowers the value: where it leads, what is there, and how much it was."""
    length = 1.0
    for _ in range(SEARCHES):
        further = np.maximum(price + length * step, supply.prices[:, 0])
        moved = further - price
        following = Balance.of(ways, supply, tau, further)
        slope, then = float(at.gradient @ moved), float(following.gradient @ moved)
        # Where the value still falls it is lower, however little: small numbers drown in the value itself.
        if then <= 0 or following.value <= at.value + SUFFICIENT * slope:
            return further, following, length
        length *= min(max(slope / (slope - then), 0.05), 0.7) if slope < 0 else 0.1
    return price, at, 0.0
