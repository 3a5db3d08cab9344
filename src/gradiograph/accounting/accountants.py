"""Accountants of others, each asked the same: the epsilon of these mechanisms, composed, at this delta.

Two libraries that share no code: Opacus (Meta) and dp-accounting (Google). Both compose privacy losses numerically,
Opacus as privacy random variables, dp-accounting as privacy loss distributions, for adding or removing one unit; and
both have moments (Renyi) accountants, which are looser and never need much memory.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dp_accounting import DpEvent, PrivacyAccountant
    from numpy.typing import NDArray

    from gradiograph.accounting.spend import Spend

_ORDERS = (
    *(1 + order for order in np.geomspace(1e-4, 0.5, 25)),
    *(1 + tenth / 10 for tenth in range(6, 100)),
    *range(12, 64),
    128,
    256,
    512,
)
"""Renyi orders; the best one falls towards 1 as epsilon grows."""


def prv_epsilon(spent: Sequence[Spend], delta: float, *, error: float = 0.01) -> float:
    """Epsilon by privacy random variables, as an upper bound (Gopi, Lee, Wutschitz 2021, arXiv 2106.02848; Opacus).

    Args:
        spent: Mechanisms with noise.
        delta: In (0, 1).
        error: By how much the bound may exceed the truth; memory grows with epsilon over it.
    """
    with _quiet():
        from opacus.accountants import PRVAccountant  # here, because it imports torch's distributed half

        accountant = PRVAccountant()
        accountant.history = [(spend.noise_multiplier, spend.sample_rate, spend.count) for spend in spent]
        return float(accountant.get_epsilon(delta, eps_error=error))


def pld_epsilon(spent: Sequence[Spend], delta: float, *, interval: float = 1e-4, group: int = 1) -> float:
    """Epsilon by privacy loss distributions (Doroshenko et al. 2022, arXiv 2207.04380; dp-accounting).

    Args:
        spent: Mechanisms with noise.
        delta: In (0, 1).
        interval: The width of a step of privacy loss, rounded up; memory grows with epsilon over it.
        group: How many units come or go together: each is drawn by itself, so that their number in a step is binomial.
    """
    with _quiet():
        return float(_composed(spent, interval, group).get_epsilon(delta))


def pld_deltas(spent: Sequence[Spend], epsilons: NDArray[np.float64], *, interval: float = 1e-3) -> NDArray[np.float64]:
    """The delta at each epsilon, rising; see `pld_epsilon`."""
    with _quiet():
        return np.asarray(_composed(spent, interval, 1).get_delta(epsilons.tolist()))


def rdp_epsilons(spent: Sequence[Spend], delta: float) -> tuple[float, float]:
    """Epsilon by Renyi moments (Mironov, Talwar, Zhang 2019, arXiv 1908.10530): that of Opacus, that of dp-accounting.

    Both are upper bounds; for large epsilon loose ones. An order whose series does not converge is left out.
    """
    from dp_accounting.rdp import RdpAccountant

    with _quiet():
        from opacus.accountants.analysis import rdp

        moments = sum(
            np.asarray(
                rdp.compute_rdp(q=s.sample_rate, noise_multiplier=s.noise_multiplier, steps=s.count, orders=_ORDERS)
            )
            for s in spent
        )
        first, _ = rdp.get_privacy_spent(orders=_ORDERS, rdp=moments, delta=delta)
        accountant = RdpAccountant(_ORDERS)
        for spend in spent:
            accountant.compose(_event(spend, 1), spend.count)
        return float(first), float(accountant.get_epsilon(delta))


def _composed(spent: Sequence[Spend], interval: float, group: int) -> PrivacyAccountant:
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(value_discretization_interval=interval)
    for spend in spent:
        accountant.compose(_event(spend, group), spend.count)
    return accountant


def _event(spend: Spend, group: int) -> DpEvent:
    from dp_accounting import dp_event
    from scipy.stats import binom

    noise = spend.noise_multiplier
    if spend.sample_rate == 1:
        return dp_event.GaussianDpEvent(noise / group)
    if group == 1:
        return dp_event.PoissonSampledDpEvent(spend.sample_rate, dp_event.GaussianDpEvent(noise))
    drawn = np.arange(group + 1)
    chances = binom.pmf(drawn, group, spend.sample_rate)
    return dp_event.MixtureOfGaussiansDpEvent(noise, drawn.astype(float).tolist(), (chances / chances.sum()).tolist())


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' remarks on orders and logarithms: what they leave out only makes the bound looser."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
