"""What a budget means: bounds on picking the right film out of N, and on telling a member from a stranger.

A bound on reconstruction holds for a success that is stated beforehand and a prior over what could be reconstructed.
For "nearer than some distance" the prior is not known; for N equally likely films, one of which is the patient's, it is
1 / N. So these bounds are drawn against top-1 identification among N, and against nothing else.
"""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import ndtr, ndtri

from gradiograph.accounting.account import LARGE, upper_bound
from gradiograph.accounting.accountants import pld_deltas
from gradiograph.accounting.revealed import participation
from gradiograph.accounting.spend import is_sampled, total_noise_multiplier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gradiograph.accounting.account import LARGE, upper_bound
from gradiograph.accounting.spend import Spend

_SMALL = 1e-9
"""A delta that no bound here can tell from zero."""


def identification_bound(spent: Sequence[Spend], films: int) -> float:
    """The most that any attack can have of top-1 identification among this many equally likely films.

    The server may know all other films, all weights between the steps, and the mechanism. Exact where nothing is
    sampled; with sampling by privacy loss distributions, and above `LARGE` for a server that learns in which steps the
    patient took part.

    Args:
        spent: Mechanisms, composed.
        films: N, at least 2.

    Returns:
        In [1 / N, 1].

    Source: Hayes, Mahloujifar, Balle 2023, arXiv 2302.07225, theorem 2, which is 1 minus the trade-off function at the
    prior (Kaissis et al. 2023, arXiv 2307.03928, section 3).
    """
    noise = total_noise_multiplier(spent)
    if noise == 0:
        return 1.0
    if not is_sampled(spent):
        return gaussian_identification(noise, films)
    if _is_large(spent):
        mu, chances = participation(spent)
        return float(chances @ ndtr(ndtri(1 / films) + mu))
    epsilons, deltas = _profile(spent)
    rising, falling = np.exp(epsilons) / films + deltas, 1 - np.exp(-epsilons) * (1 - deltas - 1 / films)
    return float(np.clip(min(rising.min(), falling.min()), 1 / films, 1.0))


def gaussian_identification(noise_multiplier: float, films: int) -> float:
    """The bound for one Gaussian release without sampling; Phi(Phi^-1(1 / N) + 1 / sigma).

    Source: Kaissis et al. 2023, arXiv 2307.03928, section 3 (the trade-off function of the Gaussian mechanism).

    >>> round(gaussian_identification(1.0, 10), 3)
    0.389
    """
    return float(ndtr(ndtri(1 / films) + 1 / noise_multiplier)) if noise_multiplier else 1.0


def budget_identification(epsilon: float, delta: float, films: int) -> float:
    """The bound that follows from (epsilon, delta) alone, looser than that of the mechanism.

    min(e^epsilon / N + delta, 1 - e^-epsilon (1 - delta - 1 / N)), at most 1: the trade-off function of (epsilon,
    delta)-differential privacy, read at the prior.

    Source: Kaissis et al. 2023, arXiv 2307.03928, section 3; for delta = 0 the first is Balle, Cherubin, Hayes 2022,
    arXiv 2201.04845, theorem 3.

    >>> round(budget_identification(1.0, 0.0, 10), 3)
    0.272
    """
    first = exp(min(epsilon, 700.0)) / films + delta
    return float(min(first, 1 - exp(-min(epsilon, 700.0)) * (1 - delta - 1 / films), 1.0))


def renyi_identification(spent: Sequence[Spend], films: int) -> float:
    """The bound by Renyi moments, (e^rdp(alpha) / N)^((alpha - 1) / alpha) at the best alpha; without sampling only.

    Source: Balle, Cherubin, Hayes 2022, arXiv 2201.04845, theorem 3 and corollary 4.

    Raises:
        ValueError: a mechanism samples.
    """
    if is_sampled(spent):
        msg = "renyi_identification is for mechanisms without sampling; use identification_bound."
        raise ValueError(msg)
    rate = 0.5 / total_noise_multiplier(spent) ** 2

    def log_bound(order: float) -> float:
        alpha = 1 + exp(order)
        return float((alpha - 1) / alpha * (rate * alpha - np.log(films)))

    found = minimize_scalar(log_bound, bounds=(-12, 12), method="bounded")
    return float(min(1.0, exp(min(0.0, found.fun))))


def membership_advantage(spent: Sequence[Spend]) -> float:
    """The most that true positives can exceed false ones when a server tells members from strangers.

    That is delta at epsilon 0. Exact where nothing is sampled, 2 Phi(mu / 2) - 1; else see `identification_bound`.

    Returns:
        In [0, 1]: 0 is a guess, 1 is certainty.

    Source: Yeom et al. 2018, arXiv 1709.01604, definition 4; Dong, Roth, Su 2019, arXiv 1905.02383.
    """
    noise = total_noise_multiplier(spent)
    if noise == 0:
        return 1.0
    if not is_sampled(spent):
        return float(2 * ndtr(0.5 / noise) - 1)
    if _is_large(spent):
        mu, chances = participation(spent)
        return float(chances @ (2 * ndtr(mu / 2) - 1))
    return float(pld_deltas(spent, np.zeros(1))[0])


def _is_large(spent: Sequence[Spend]) -> bool:
    return upper_bound(spent, _SMALL) > LARGE


def _profile(spent: Sequence[Spend]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Delta at each epsilon, from 0 to where it is all but zero."""
    epsilons = np.linspace(0.0, upper_bound(spent, _SMALL), 4000)
    return epsilons, pld_deltas(spent, epsilons)
