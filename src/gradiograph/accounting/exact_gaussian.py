"""The Gaussian mechanism without a bound in between: its (epsilon, delta), exactly, where nothing is subsampled."""

from __future__ import annotations

from math import exp, inf

from scipy.optimize import brentq
from scipy.special import log_ndtr


def gaussian_delta(epsilon: float, noise_multiplier: float) -> float:
    """The smallest delta of one Gaussian release at this epsilon.

    Args:
        epsilon: At least 0.
        noise_multiplier: Standard deviation of the noise over the L2 sensitivity, above 0. Of R releases of equal noise
            it is that of one over the square root of R.

    Returns:
        In [0, 1].

    Source: Balle and Wang 2018, arXiv 1805.06530, theorem 8.
    """
    half, shift = 0.5 / noise_multiplier, epsilon * noise_multiplier
    return float(max(0.0, exp(log_ndtr(half - shift)) - exp(epsilon + log_ndtr(-half - shift))))


def gaussian_epsilon(noise_multiplier: float, delta: float) -> float:
    """The smallest epsilon of one Gaussian release at this delta in (0, 1); infinite without noise.

    >>> round(gaussian_epsilon(3.73, 1e-5), 2), gaussian_epsilon(0.0, 1e-5)
    (1.0, inf)
    """
    if noise_multiplier <= 0:
        return inf
    if gaussian_delta(0.0, noise_multiplier) <= delta:
        return 0.0
    high = 1.0
    while gaussian_delta(high, noise_multiplier) > delta:
        high *= 2
    return float(brentq(lambda epsilon: gaussian_delta(epsilon, noise_multiplier) - delta, 0.0, high, rtol=1e-10))


def gaussian_noise_multiplier(epsilon: float, delta: float) -> float:
    """The least noise of one Gaussian release that has this epsilon at this delta.

    Args:
        epsilon: Above 0.
        delta: In (0, 1).

    >>> round(gaussian_noise_multiplier(1.0, 1e-5), 2)
    3.73
    """
    low, high = 1e-3, 1.0
    while gaussian_delta(epsilon, high) > delta:
        high *= 2
    while gaussian_delta(epsilon, low) < delta:
        low /= 2
    return float(brentq(lambda sigma: gaussian_delta(epsilon, sigma) - delta, low, high, rtol=1e-10))
