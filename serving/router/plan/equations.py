"""The linear equations of a step towards the right prices: how they move when every site is to be asked for
so much more or less.

When prices move by `v`, what doors send moves along straight lines first: `-sent / tau (v - mean of v)`, the
mean being over what the door sends. So the equations have a row and a column for each site, and are those of
a network of resistors: sites are joined by the doors that send to both, and leak by what they supply more at
a higher price.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import cg

from serving.router.plan.problem import Floats
from serving.router.plan.ways import Ways

DENSE = 100
"""Up to so many members all pairs count as joined; beyond it conjugate gradients are faster …"""
CG_EXACT, CG_STEPS = 1e-2, 200
"""… to this share of the right side, in so many steps at most: what is left, the next step makes good."""
SEEN = 1e-4
"""Of what a door sends: smaller parts count in how fast a site's demand moves, not in where it goes then."""
RIDGE = 1e-9
"""Added to each site's own part, as a share of it: prices that nobody pays have none."""
TINY = 1e-300


def moves(ways: Ways, sent: Floats, tau: float, leak: Floats, right: Floats) -> Floats:
    """The prices' move, by site, that lets `right` more go through `leak`, and `sent` follow.

    `sent`: requests a second by way that follow prices; `leak`: more supply for a higher price.
    """
    count = len(right)
    total = np.maximum(ways.each(sent), TINY)
    own = ways.asked(sent, count) / tau
    diagonal = (own + leak) * (1 + RIDGE) + TINY
    part = sent / np.sqrt(tau * total)[ways.door]
    if count <= DENSE:
        apart = np.zeros((len(total), count))
        apart[ways.door, ways.site] = part
        matrix = np.diag(diagonal) - apart.T @ apart
        scale = 1 / np.sqrt(np.maximum(np.diag(matrix), RIDGE * diagonal))
        return np.asarray(scale * np.linalg.solve(scale[:, None] * matrix * scale, scale * right), np.float64)
    seen = sent > SEEN * total[ways.door]
    part, site = part[seen], ways.site[seen]
    scale = 1 / np.sqrt(np.maximum(diagonal - np.bincount(site, part * part, count), RIDGE * diagonal))
    rows = np.concatenate([[0], np.cumsum(np.add.reduceat(seen, ways.first, dtype=np.int64))])
    near = csr_array((part * scale[site], site, rows), shape=(len(total), count))
    place = np.arange(count + 1)
    matrix = csr_array((diagonal * scale * scale, place[:-1], place), shape=(count, count)) - near.T @ near
    found, _ = cg(matrix, scale * right, rtol=CG_EXACT, maxiter=CG_STEPS)
    return np.asarray(scale * found, np.float64)
