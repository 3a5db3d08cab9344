"""The least noise that keeps a training within a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from math import exp, log
from typing import TYPE_CHECKING

from scipy.optimize import brentq

from gradiograph.accounting.account import LARGE, upper_bound
from gradiograph.accounting.accountants import pld_epsilon
from gradiograph.accounting.exact_gaussian import gaussian_noise_multiplier
from gradiograph.accounting.spend import is_sampled, total_noise_multiplier
from gradiograph.core.errors import BadSetting

if TYPE_CHECKING:
    from gradiograph.accounting.spend import Spend

_NOISE = (1e-7, 1e4)
"""Noise multipliers that are searched."""


@cache
def calibrated_noise(spent: tuple[Spend, ...], epsilon: float, delta: float) -> float:
    """The least noise multiplier, the same for all mechanisms, whose composed budget is at most epsilon at delta.

    Exact where nothing is sampled; else by privacy loss distributions, and above `LARGE` by the least upper bound that
    needs no memory. The result is rounded up by 0.02 percent.

    Args:
        spent: The mechanisms; their own noise does not count.
        epsilon: Above 0.
        delta: In (0, 1).

    Raises:
        BadSetting: no noise within 1e-7 and 1e4 has this budget.
    """
    alike = [replace(spend, noise_multiplier=1.0) for spend in spent]
    if not is_sampled(alike):
        return gaussian_noise_multiplier(epsilon, delta) / total_noise_multiplier(alike)

    def cheap(noise: float) -> float:
        return upper_bound([replace(spend, noise_multiplier=noise) for spend in alike], delta)

    if epsilon > LARGE:
        return _solved(cheap, epsilon, _NOISE)
    rough = _solved(cheap, epsilon, _NOISE, within=0.02)

    def precise(noise: float) -> float:
        interval = max(1e-3, 1e-4 * epsilon)
        return pld_epsilon([replace(spend, noise_multiplier=noise) for spend in alike], delta, interval=interval)

    return _solved(precise, epsilon, (rough / 3, 1.1 * rough))


def _solved(
    budget: Callable[[float], float], epsilon: float, span: tuple[float, float], *, within: float = 1e-4
) -> float:
    """The noise of this budget, never less than it, and at most twice `within` of itself more."""
    low, high = map(log, span)
    if budget(exp(high)) > epsilon or budget(exp(low)) < epsilon:
        msg = f"No noise multiplier from {span[0]:g} to {span[1]:g} has epsilon = {epsilon:g}. Choose another epsilon."
        raise BadSetting(msg)
    found = brentq(lambda noise: log(max(budget(exp(noise)), 1e-12) / epsilon), low, high, xtol=within)
    return exp(float(found)) * (1 + 2 * within)
