"""The budget when the server learns in which steps a unit took part: an upper bound, close where epsilon is large.

A Poisson-sampled mechanism is a mixture over who took part, and the divergence that defines delta is convex in it. So
delta is at most the mean, over the number of steps K that drew the unit, of the delta of K Gaussian releases, which is
known exactly. Moments accountants are loose above epsilon = 1000, by a factor of ten and more at 10^8, and numerical
ones run out of memory; there the releases tell who took part anyway, and little is given away by saying so.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr
from scipy.stats import binom

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradiograph.accounting.spend import Spend

_CELLS = 2**14
"""On how many values the distribution of the precision is kept where mechanisms differ; rounded up."""


def revealed_epsilon(spent: Sequence[Spend], delta: float) -> float:
    """An upper bound on epsilon at delta, for adding or removing one unit.

    Args:
        spent: Mechanisms; without noise the result is infinite.
        delta: In (0, 1).

    Source: joint convexity of the hockey-stick divergence, and Balle and Wang 2018 (arXiv 1805.06530, theorem 8) for
    each K.
    """
    if any(spend.noise_multiplier == 0 for spend in spent):
        return inf
    mu, chances = participation(spent)

    def excess(epsilon: float) -> float:
        return float(chances @ _deltas(epsilon, mu)) - delta

    if excess(0.0) <= 0:
        return 0.0
    high = 1.0
    while excess(high) > 0:
        high *= 2
    return float(brentq(excess, 0.0, high, rtol=1e-10))


def _deltas(epsilon: float, mu: NDArray[np.float64]) -> NDArray[np.float64]:
    """The delta of a Gaussian mechanism of sensitivity mu over noise 1, for each mu; 0 for mu = 0."""
    safe = np.where(mu > 0, mu, 1.0)
    upper, lower = log_ndtr(safe / 2 - epsilon / safe), epsilon + log_ndtr(-safe / 2 - epsilon / safe)
    return np.where(mu > 0, np.exp(upper) * -np.expm1(np.minimum(lower - upper, 0.0)), 0.0)


def participation(spent: Sequence[Spend]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How clearly a unit shows, by the steps that drew it: the values of sqrt(sum K / sigma^2), and their chances."""
    values, chances = np.zeros(1), np.ones(1)
    for spend in spent:
        times = np.arange(spend.count + 1)
        own = binom.pmf(times, spend.count, spend.sample_rate)
        kept = own > 0
        values = np.add.outer(values, times[kept] / spend.noise_multiplier**2).ravel()
        chances = np.multiply.outer(chances, own[kept]).ravel()
        values, chances = _rounded_up(values, chances)
    return np.sqrt(values), chances


def _rounded_up(
    values: NDArray[np.float64], chances: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(values) <= _CELLS:
        return values, chances
    width = float(values.max()) / _CELLS
    places = np.ceil(values / width).astype(int)
    total = np.zeros(_CELLS + 1)
    np.add.at(total, places, chances)
    return np.arange(_CELLS + 1, dtype=np.float64) * width, total
